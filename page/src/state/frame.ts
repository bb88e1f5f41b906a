/** A function that has `work` done once with the next frame, however often it is called until then.
 * A page that is not shown has no frames: it is done within a second all the same.
 */
export function onFrame(work: () => void): () => void {
  let isDue = false;
  const run = () => {
    if (!isDue) return;
    isDue = false;
    work();
  };
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(run);
    setTimeout(run, 1000);
  };
}
