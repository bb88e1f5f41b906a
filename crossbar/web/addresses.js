// Behind a reverse proxy only the reader's browser knows by which host, port and path the bus is
// reached, so the addresses on the page are made from the page's own.
if (location.protocol.startsWith("http")) {
  for (const shown of document.querySelectorAll("[data-service]")) {
    const address = new URL(shown.dataset.service, location.href);
    if (shown.dataset.service === "ws") {
      address.protocol = address.protocol.replace("http", "ws");
    }
    shown.textContent = address.href;
  }
  document.getElementById("hint").remove();
}
