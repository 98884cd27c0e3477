// Look at a report in a browser: check it with axe-core, and take its pictures.
//
//     npm install --prefix .ci/browser
//     node .ci/browser/report.mjs reports/index.html <folder for the pictures>
//
// Needs Chromium, such as Debian's package `chromium`; CHROMIUM names another one. Each width is shown light and dark,
// then printed as a PDF. Prints one line per picture, and exits with 1 if axe-core finds a fault, if the page is wider
// than the window, or if it loads anything.
import axe from "axe-core";
import { mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const WIDTHS = [390, 1280, 1920];
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

const [report, folder] = process.argv.slice(2);
if (!folder) {
  console.error("usage: node .ci/browser/report.mjs <report.html> <folder for the pictures>");
  process.exit(2);
}
mkdirSync(folder, { recursive: true });
const address = pathToFileURL(resolve(report)).href;
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu"], // as root in a container; the page is our own file
  protocolTimeout: 0, // a whole page at 1920 px takes long on a busy machine
});
let faults = 0;
try {
  for (const scheme of ["light", "dark"]) {
    for (const width of WIDTHS) {
      const found = await look(scheme, width);
      faults += found.length;
      console.log(`${scheme} ${width} px: ${found.length ? found.join("\n  ") : "no fault"}`);
    }
  }
  await print();
} finally {
  await browser.close();
}
process.exit(faults ? 1 : 0);

// Take the picture of the whole page; return what is wrong with it, one line each.
async function look(scheme, width) {
  const page = await browser.newPage();
  const found = [];
  page.on("request", (request) => {
    if (!request.url().startsWith("data:") && request.url() !== address) found.push(`loads ${request.url()}`);
  });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport({ width, height: 900, deviceScaleFactor: 1 });
  await page.goto(address, { timeout: 0 });
  await page.evaluate(() => document.querySelectorAll("details").forEach((each) => (each.open = true)));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) found.push(`the page is ${wide} px wide`);
  await page.evaluate(axe.source);
  const result = await page.evaluate((tags) => axe.run({ runOnly: tags }), RULES);
  for (const { id, help, nodes } of result.violations) {
    found.push(`${id}: ${help}: ${nodes.length} of them, first ${nodes[0].target} ${nodes[0].failureSummary}`);
  }
  await page.screenshot({ path: join(folder, `${scheme}-${width}.png`), fullPage: true });
  await page.close();
  return found;
}

// Print the page on A4, as a browser does by default: without backgrounds.
async function print() {
  const page = await browser.newPage();
  await page.goto(address, { timeout: 0 });
  await page.pdf({ path: join(folder, "print.pdf"), format: "A4", timeout: 0 });
  await page.close();
  console.log("printed on A4: print.pdf");
}
