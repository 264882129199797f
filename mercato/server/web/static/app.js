// Comfort only: every page works without this file.
"use strict";

const said = document.getElementById("said");

function reveal(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Refused by the browser: leave the text selected, to be copied by hand.
    getSelection().selectAllChildren(source);
    return;
  }
  button.textContent = "Copied";
  said.textContent = "Copied";
  setTimeout(() => {
    button.textContent = "Copy";
    said.textContent = "";
  }, 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});

// Only one question stands open at a time, and Escape takes it back.
document.addEventListener("toggle", (event) => {
  if (!event.target.matches("details.revoke[open]")) return;
  for (const other of document.querySelectorAll("details.revoke[open]")) if (other !== event.target) other.open = false;
}, true);

document.addEventListener("keydown", (event) => {
  const open = event.key === "Escape" && event.target.closest("details.revoke[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});

// What was swapped in may hold copy buttons; what was swapped out may have held the focus.
document.addEventListener("htmx:afterSettle", (event) => {
  reveal(document);
  if (document.activeElement === document.body) document.getElementById(event.detail.target.id)?.focus();
});

// An answer without the part that was asked for (signed out meanwhile, an error page): ask again as a plain page.
function askPlainly(event) {
  event.detail.requestConfig.elt.closest("form")?.submit();
}

document.addEventListener("htmx:sendError", askPlainly);
document.addEventListener("htmx:beforeSwap", (event) => {
  const { serverResponse, target, xhr } = event.detail;
  if (xhr.status === 200 && serverResponse.includes(`id="${target.id}"`)) return;
  event.detail.shouldSwap = false;
  askPlainly(event);
});

reveal(document);
