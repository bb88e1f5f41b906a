import { defineConfig } from "vite";

// `npm run dev -w page` serves the sources; everything else comes from the bus at this address.
const BUS = "http://127.0.0.1:9080";

export default defineConfig({
  base: "./", // a reverse proxy may have the bus below any path
  build: {
    outDir: "../crossbar/web",
    emptyOutDir: true,
    target: ["es2022", "chrome123", "firefox120", "safari17.5"],
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // the policy of the page allows no data: addresses
  },
  server: {
    proxy: {
      "/ws": { target: BUS, ws: true },
      "/docs": BUS,
      "/v1": BUS,
    },
  },
});
