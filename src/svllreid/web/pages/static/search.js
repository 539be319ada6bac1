"use strict";
// Pictures of a query: dropped, pasted, chosen or photographed, shown with a box to draw on each. Without this script the
// form works with its file field and four numbers.

const form = document.querySelector("form[data-pictures]");
const field = form.querySelector("input[data-files]");
const photo = form.querySelector("input[data-photo]");
const drop = form.querySelector(".drop");
const list = form.querySelector(".chosen");
const said = form.querySelector("[data-said]");
const submit = form.querySelector("button[data-submit]");
const [most, mostBytes, mostTogether] = ["maxFiles", "maxBytes", "maxRequest"].map((name) => Number(form.dataset[name]));
const boxes = form.dataset.boxes === "yes";
let pictures = [];

function say(text, bad = false) {
  said.textContent = text;
  said.className = bad ? "note bad" : "small quiet";
  said.hidden = !text;
}

function add(files) {
  const images = [...files].filter((file) => !file.type || file.type.startsWith("image/"));
  const light = images.filter((file) => file.size <= mostBytes);
  let room = 0.95 * mostTogether - pictures.reduce((sum, picture) => sum + picture.file.size, 0);
  const taken = light.slice(0, most - pictures.length).filter((file) => (room -= file.size) > 0);
  pictures.push(...taken.map((file) => new Picture(file)));
  const problems = [];
  if (images.length < files.length) problems.push("Only pictures can be searched for.");
  if (light.length < images.length) problems.push(`Pictures may have ${Math.floor(mostBytes / 1e6)} MB at most.`);
  if (room <= 0) problems.push(`All pictures together may have ${Math.floor((0.95 * mostTogether) / 1e6)} MB at most.`);
  else if (taken.length < light.length) problems.push(`${most} pictures at most.`);
  refresh();
  const number = pictures.length === 1 ? "1 picture chosen." : `${pictures.length} pictures chosen.`;
  say([...problems, number].join(" "), problems.length > 0);
  if (taken.length && boxes) submit.focus();
}

function refresh() {
  const transfer = new DataTransfer();
  for (const picture of pictures) transfer.items.add(picture.file);
  field.files = transfer.files;
  if (photo) photo.value = "";
  list.replaceChildren(...pictures.map((picture, index) => picture.item(index + 1)));
  list.hidden = pictures.length === 0;
  submit.hidden = boxes && pictures.length === 0;
  list.classList.toggle("one", pictures.length === 1);
  submit.disabled = pictures.length === 0;
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

class Picture {
  // A chosen file, and the box of it that is searched for: null, or left, top, width and height in pixels.
  constructor(file) {
    this.file = file;
    this.box = null;
    this.image = new Image();
    this.image.onload = () => this.loaded();
    this.image.onerror = () => this.canvas?.replaceWith(element("p", { className: "quiet", textContent: this.file.name }));
    this.image.src = URL.createObjectURL(file);
  }

  item(number) {
    this.canvas = element("canvas", { width: 1, height: 1 });
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `Picture ${number}: ${this.file.name}`);
    this.hidden = element("input", { type: "hidden", name: "box" });
    const remove = element("button", { type: "button", className: "little", textContent: "Leave out" });
    remove.setAttribute("aria-label", `Leave out picture ${number}`);
    remove.onclick = () => {
      URL.revokeObjectURL(this.image.src);
      pictures = pictures.filter((picture) => picture !== this);
      refresh();
      say(pictures.length ? `${pictures.length} left.` : "No picture chosen.");
      (list.querySelector("button") || field).focus();
    };
    const item = element("li", {}, this.canvas);
    if (boxes) item.append(...this.boxControls(number));
    item.append(element("div", { className: "row" }, ...(boxes ? [this.toggle, this.whole] : []), remove));
    if (this.image.complete && this.image.naturalWidth) this.loaded();
    return item;
  }

  boxControls(number) {
    this.toggle = element("button", { type: "button", className: "little for-touch", textContent: "Draw a box" });
    this.toggle.setAttribute("aria-pressed", "false");
    this.toggle.setAttribute("aria-label", `Draw a box on picture ${number}`);
    this.toggle.onclick = () => this.canvas.classList.toggle("drawing", this.press(this.toggle.ariaPressed !== "true"));
    this.whole = element("button", { type: "button", className: "little", textContent: "Whole picture", hidden: true });
    this.whole.onclick = () => {
      this.setBox(null);
      this.toggle.focus();
    };
    this.numbers = ["Left", "Top", "Width", "Height"].map((name) => {
      const input = element("input", { type: "number", min: "0", step: "1", inputMode: "numeric" });
      input.onchange = () => this.fromNumbers();
      return [element("label", { className: "field" }, name, input), input];
    });
    const four = element("div", { className: "four" }, ...this.numbers.map(([label]) => label));
    const hint = element("p", { className: "small quiet for-mouse", textContent: "Draw a box to search only for a part." });
    const details = element("details", {}, element("summary", { textContent: "Box in pixels" }), four);
    this.listen();
    return [this.hidden, hint, details];
  }

  press(on) {
    this.toggle.ariaPressed = String(on);
    return on;
  }

  loaded() {
    if (!this.canvas) return;
    const scale = Math.min(1, 1200 / Math.max(this.image.naturalWidth, this.image.naturalHeight));
    const enlarged = Math.max(1, Math.min(3, 320 / this.image.naturalHeight));
    this.scale = scale < 1 ? scale : enlarged;
    this.canvas.width = Math.round(this.image.naturalWidth * this.scale);
    this.canvas.height = Math.round(this.image.naturalHeight * this.scale);
    this.draw();
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const { width, height } = this.canvas;
    context.drawImage(this.image, 0, 0, width, height);
    if (!this.box) return;
    const [left, top, boxWidth, boxHeight] = this.box.map((value) => value * this.scale);
    context.fillStyle = "rgb(0 0 0 / 55%)";
    context.beginPath();
    context.rect(0, 0, width, height);
    context.rect(left, top, boxWidth, boxHeight);
    context.fill("evenodd");
    context.lineWidth = Math.max(2, width / 250);
    context.strokeStyle = "#6bcac6";
    context.strokeRect(left, top, boxWidth, boxHeight);
  }

  setBox(box) {
    this.box = box;
    this.hidden.value = box ? box.join(",") : "";
    this.whole.hidden = !box;
    this.numbers.forEach(([, input], index) => (input.value = box ? box[index] : ""));
    this.draw();
  }

  fromNumbers() {
    const [left, top, width, height] = this.numbers.map(([, input]) => Math.round(Number(input.value)) || 0);
    const { naturalWidth, naturalHeight } = this.image;
    if (width < 1 || height < 1) return;
    if (left + width > naturalWidth || top + height > naturalHeight) {
      say(`The picture has ${naturalWidth} × ${naturalHeight} pixels; the box reaches beyond it.`, true);
      return;
    }
    say("");
    this.setBox([left, top, width, height]);
  }

  at(event) {
    const area = this.canvas.getBoundingClientRect();
    const within = (value, most) => Math.round(Math.min(Math.max(value, 0), most));
    return [
      within(((event.clientX - area.left) / area.width) * this.image.naturalWidth, this.image.naturalWidth),
      within(((event.clientY - area.top) / area.height) * this.image.naturalHeight, this.image.naturalHeight),
    ];
  }

  listen() {
    const canvas = this.canvas;
    let start = null;
    canvas.onpointerdown = (event) => {
      if (event.pointerType !== "mouse" && !canvas.classList.contains("drawing")) return;
      event.preventDefault();
      start = this.at(event);
      canvas.setPointerCapture(event.pointerId);
    };
    canvas.onpointermove = (event) => {
      if (!start) return;
      const end = this.at(event);
      const box = [0, 1].map((axis) => Math.min(start[axis], end[axis]));
      const size = [0, 1].map((axis) => Math.abs(start[axis] - end[axis]));
      this.setBox(size[0] > 3 && size[1] > 3 ? [...box, ...size] : null);
    };
    canvas.onpointerup = canvas.onpointercancel = () => {
      if (!start) return;
      start = null;
      say(this.box ? "Only the box is searched for." : "The whole picture is searched for.");
    };
  }
}

field.addEventListener("change", () => add(field.files));
photo?.addEventListener("change", () => add(photo.files));
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    add(event.clipboardData.files);
  }
});
for (const type of ["dragover", "drop"]) document.addEventListener(type, (event) => event.preventDefault());
document.addEventListener("dragover", () => drop.classList.add("over"));
document.addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
document.addEventListener("drop", (event) => {
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
form.addEventListener("submit", () => {
  submit.disabled = true;
  say(form.dataset.busy);
});
addEventListener("pageshow", (event) => {
  // Back from the results: the browser may keep the page, or fill the field again.
  if (event.persisted) say("");
  submit.disabled = pictures.length === 0;
  if (!pictures.length && field.files.length) add(field.files);
});
refresh();
