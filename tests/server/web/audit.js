// Returns what is wrong with the page, as sentences. Run in the page; needs nothing of the page's own scripts.
(() => {
  const faults = [];
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const visible = (element) => element.checkVisibility({ checkVisibilityCSS: true });
  const say = (element, fault) => faults.push(`${fault}: ${element.outerHTML.replace(/\s+/g, " ").slice(0, 160)}`);
  const text = (element) => (element?.textContent ?? "").trim();
  const byIds = (ids) => (ids ?? "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id));
  const nameOf = (element) =>
    element.getAttribute("aria-label")?.trim() ||
    byIds(element.getAttribute("aria-labelledby")).map(text).join(" ").trim() ||
    [...(element.labels ?? [])].map(text).join(" ").trim();

  // The page as a whole
  if (document.documentElement.lang !== "en") faults.push("no language");
  if (!/\S+ · mercato$/.test(document.title)) faults.push(`title: ${document.title}`);
  if (all("h1").length !== 1) faults.push(`${all("h1").length} h1`);
  if (all("main").length !== 1) faults.push("not one main");
  const levels = all("h1, h2, h3, h4").filter(visible).map((heading) => Number(heading.tagName[1]));
  levels.forEach((level, at) => { if (level > (levels[at - 1] ?? 0) + 1) faults.push(`h${level} after h${levels[at - 1] ?? 0}`); });

  // Names and references
  const controls = all("input:not([type=hidden]), select, textarea").filter(visible);
  for (const control of controls) if (!nameOf(control)) say(control, "no label");
  for (const button of all("button, a[href], summary").filter(visible)) if (!text(button) && !nameOf(button)) say(button, "no name");
  for (const group of all("fieldset")) if (!text(group.querySelector("legend"))) say(group, "no legend");
  for (const image of all("img, svg").filter(visible))
    if (!image.hasAttribute("alt") && image.getAttribute("aria-hidden") !== "true") say(image, "no alternative");
  const ids = all("[id]").map((element) => element.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) faults.push(`id twice: ${id}`);
  for (const attribute of ["aria-labelledby", "aria-describedby"])
    for (const element of all(`[${attribute}]`)) if (byIds(element.getAttribute(attribute)).includes(null)) say(element, `${attribute} leads nowhere`);
  for (const label of all("label[for]")) if (!document.getElementById(label.htmlFor)) say(label, "label of nothing");
  for (const link of all("a[href^='#']")) if (!document.getElementById(link.hash.slice(1))) say(link, "link to nothing");
  for (const element of all("[tabindex]")) if (element.tabIndex > 0) say(element, "tabindex above 0");
  for (const field of all("input[aria-invalid]")) if (!field.hasAttribute("aria-describedby")) say(field, "error not tied");
  for (const field of all("input[type=password], input[type=email]")) if (!field.autocomplete) say(field, "no autocomplete");

  // Nothing inline: the policy would drop it, and the page would be another than the one that was written
  for (const element of all("[style], script:not([src]), style")) say(element, "inline");
  for (const element of all("*")) if (element.getAttributeNames().some((name) => name.startsWith("on"))) say(element, "inline handler");

  // Large enough to hit (WCAG 2.2, 2.5.8)
  for (const target of [...all("button, summary, nav a, .button"), ...controls].filter(visible)) {
    const { width, height } = (target.closest("label") ?? target).getBoundingClientRect();
    if (width < 24 || height < 24) say(target, `${width} x ${height} px to hit`);
  }

  // Contrast (1.4.3, 1.4.11): text against what lies below it, and the edges of fields
  const channels = (color) => {
    const [r, g, b, a = 1] = color.match(/[\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, at) => value * a + below[at] * (1 - a)).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(channels(getComputedStyle(at).backgroundColor));
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (one, other) => {
    const [dim, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dim + 0.05);
  };
  const seen = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || seen.has(element) || !visible(element)) continue;
    seen.add(element);
    if (element.closest("button")?.disabled) continue;
    const style = getComputedStyle(element);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    const below = ground(element);
    const found = contrast(over(channels(style.color), below), below);
    if (found < (large ? 3 : 4.5)) say(element, `contrast ${found.toFixed(2)}`);
  }
  for (const control of controls.filter((one) => !["checkbox", "radio"].includes(one.type) && !one.readOnly)) {
    const below = ground(control.parentElement);
    const found = contrast(over(channels(getComputedStyle(control).borderTopColor), below), below);
    if (found < 3) say(control, `contrast of its edge ${found.toFixed(2)}`);
  }
  return faults;
})()
