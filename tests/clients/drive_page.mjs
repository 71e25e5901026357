// Use web_demo in headless Chromium as a visitor does: MODULES PLAN.json -> JSON, one result a step, and what the page
// asked of the network. A plan has address, steps, and optionally gpu (a software adapter for WebGPU).
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const [modules, planFile] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/package.json`)("playwright-core");
const plan = JSON.parse(await readFile(planFile, "utf8"));
const GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--ignore-gpu-blocklist"];
const PATIENCE = 1000 * plan.seconds;

const browser = await chromium.launch({
  executablePath: plan.chromium,
  args: ["--no-sandbox", "--use-fake-device-for-media-stream", ...(plan.gpu ? GPU : ["--disable-gpu"])],
});
const context = await browser.newContext({ permissions: plan.camera === false ? [] : ["camera"], viewport: { width: 1100, height: 900 } });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);
const [requests, faults] = [[], []];
page.on("request", (request) => requests.push(request.url()));
page.on("pageerror", (error) => faults.push(String(error)));
page.on("console", (message) => /Content.Security.Policy/i.test(message.text()) && faults.push(message.text()));

async function idle() {
  await page.waitForSelector("body[aria-busy=false]");
}

async function choose(id, value) {
  if ((await page.locator(id).inputValue()) === value) return;
  await page.locator(id).selectOption(value);
  await idle();
}

async function answer() {
  await idle();
  const lines = page.locator("#top li");
  const top = await lines.evaluateAll((all) => all.map((li) => [...li.querySelectorAll("span")].map((one) => one.textContent)));
  const problem = page.locator("#problem");
  return { top, timing: await page.textContent("#timing"), problem: await problem.textContent() };
}

const STEPS = {
  async answers({ model, backend, photos }) {
    await choose("#model", model);
    await choose("#backend", backend);
    const found = {};
    for (const photo of photos) {
      await page.locator("#file").setInputFiles(photo);
      found[photo] = await answer();
    }
    return found;
  },
  async pixels({ photos }) {
    const found = {};
    for (const photo of photos) {
      await page.locator("#probe").setInputFiles(photo);
      found[photo] = await page.evaluate(async () => {
        const { decode } = await import("./app/photo.js");
        const { sha256 } = await import("./core/bytes.js");
        try {
          const { image, transparent } = await decode(document.getElementById("probe").files[0]);
          return { width: image.width, height: image.height, sha256: await sha256(image.bytes), transparent };
        } catch (error) {
          return { error: error.message };
        }
      });
    }
    return found;
  },
  async once({ file, backend, photos }) {
    const found = {};
    await page.evaluate(async ([file, backend]) => {
      const { loadBundle } = await import("./app/files.js");
      const { engineFor } = await import("./app/loaded.js");
      const artefact = (await loadBundle()).artefacts.find((one) => one.file === file);
      window.probed = { artefact, engine: await engineFor(artefact, backend) };
    }, [file, backend]);
    for (const photo of photos) {
      await page.locator("#probe").setInputFiles(photo);
      found[photo] = await page.evaluate(async () => {
        const { decode } = await import("./app/photo.js");
        const { rank } = await import("./core/ranking.js");
        const { artefact, engine } = window.probed;
        const { image } = await decode(document.getElementById("probe").files[0]);
        const ranked = rank(await engine.run(engine.inputOf(image)), artefact.manifest.labels, 5);
        return ranked.map(({ label, probability }) => [label, probability]);
      });
    }
    return found;
  },
  async takePhoto() {
    await page.click("#camera");
    await page.waitForFunction(() => document.querySelector("video").videoWidth > 0);
    await page.click("#shoot");
    await page.waitForSelector("#top li");
    return answer();
  },
  async refusedCamera() {
    await page.click("#camera");
    return answer();
  },
  async selfTest() {
    await page.click("#test");
    await idle();
    return {
      result: await page.textContent("#test-result"),
      failures: await page.locator("#test-failures li").allTextContents(),
      files: await page.locator("#test-models tbody tr").evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent))),
    };
  },
  async report({ path }) {
    await page.click("#measure");
    await idle();
    const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
    await download.saveAs(path);
    return { rows: await page.locator("#measurements tbody tr").allTextContents() };
  },
  async picture({ path, width }) {
    await page.setViewportSize({ width, height: 800 });
    await page.screenshot({ path, fullPage: true });
    return { overflows: await page.evaluate(() => document.documentElement.scrollWidth > innerWidth) };
  },
  async look() {
    await page.waitForSelector("#problem:not([hidden])");
    return { problem: await page.textContent("#problem"), sections: await page.locator("section:visible").count() };
  },
  async threads() {
    return page.evaluate(async () => (await import("./engines/engines.js")).threadCount());
  },
  async backends() {
    return page.locator("#backend option").evaluateAll((all) => all.map((one) => one.value));
  },
};

try {
  await page.goto(plan.address);
  await page.waitForSelector(plan.broken ? "#problem:not([hidden])" : "body[data-ready]");
  if (!plan.broken) await idle();
  await page.evaluate(() => {
    const input = document.createElement("input"); // for photos that the page itself is not to answer
    input.type = "file";
    input.id = "probe";
    input.hidden = true;
    document.body.append(input);
  });
  const results = [];
  for (const { step, ...given } of plan.steps) results.push(await STEPS[step](given));
  console.log(JSON.stringify({ results, faults, hosts: [...new Set(requests.map((url) => new URL(url).origin))] }));
} finally {
  await browser.close();
}
