/** What the browser tells of the device: `{model, osVersion, cores}`; model is null where it does not tell. */
export async function describeDevice() {
  const told = await navigator.userAgentData?.getHighEntropyValues(["model", "platformVersion", "fullVersionList"]);
  return {
    model: told?.model || null,
    osVersion: told ? versions(told) : navigator.userAgent,
    cores: Math.max(1, navigator.hardwareConcurrency ?? 1),
  };
}

function versions({ fullVersionList, platform, platformVersion }) {
  const brands = (fullVersionList ?? []).filter(({ brand }) => !/not.*brand/i.test(brand));
  const browser = brands.map(({ brand, version }) => `${brand} ${version}`).join(", ") || navigator.userAgent;
  return `${browser} on ${`${platform} ${platformVersion ?? ""}`.trim() || "an unnamed system"}`;
}
