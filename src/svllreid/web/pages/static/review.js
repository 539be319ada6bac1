"use strict";
// Keys for the answers: they press the buttons, which work by themselves. Whoever speaks to the browser can switch them off.

const answers = document.querySelector("form[data-answers]");
const keys = document.querySelector("input[data-keys]");
const stored = "review-keys";
keys.checked = localStorage.getItem(stored) !== "off";
keys.addEventListener("change", () => localStorage.setItem(stored, keys.checked ? "on" : "off"));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (!keys.checked || typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const button = [...document.querySelectorAll("button[data-key]")].find((one) => one.dataset.key === event.key.toLowerCase());
  if (!button || button.disabled) return;
  event.preventDefault();
  button.click();
});
answers?.addEventListener("submit", () => {
  // After the answer has been sent: a second press would answer for a pair that nobody has seen.
  setTimeout(() => answers.querySelectorAll("button").forEach((button) => (button.disabled = true)));
});
