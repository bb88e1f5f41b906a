// A guard against hanging, not a measure.
const PATIENCE_SECONDS = 60;

/** What a function returns, or the error that it throws, as JSON can carry it. */
export async function outcome(work) {
  let guard;
  const late = new Promise((_, reject) => {
    guard = setTimeout(() => reject(new Error("no end in sight")), PATIENCE_SECONDS * 1000);
  });
  try {
    return {value: (await Promise.race([work(), late])) ?? null};
  } catch (error) {
    const {name, message, uri, field, value, remedy, args, kwargs} = error;
    return {error: {name, message, uri, field, value, remedy, args, kwargs}};
  } finally {
    clearTimeout(guard);
  }
}
