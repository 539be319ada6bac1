"use strict";
// Counts what is ticked, and lets the buttons that need it wait for it.

for (const form of document.querySelectorAll("form[data-select]")) {
  const count = form.querySelector("[data-count]");
  const least = Number(form.dataset.select);
  const boxes = [...document.querySelectorAll(`input[type=checkbox][form="${form.id}"]`), ...form.querySelectorAll("input[type=checkbox]")];
  const show = () => {
    const ticked = boxes.filter((box) => box.checked).length;
    count.textContent = `${ticked} selected`;
    for (const button of form.querySelectorAll("button[data-needs]")) button.disabled = ticked < least;
  };
  boxes.forEach((box) => box.addEventListener("change", show));
  addEventListener("pageshow", show);
  show();
}
