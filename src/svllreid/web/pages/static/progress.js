"use strict";
// Shows how far adding has come, and loads the page once more when it has ended.

const bar = document.querySelector("progress[data-job]");
const said = document.querySelector("[data-progress-text]");
const pause = 400;

async function look() {
  try {
    const answer = await fetch(bar.dataset.job, { headers: { Accept: "application/json" }, cache: "no-store" });
    if (!answer.ok) return location.reload();
    const job = await answer.json();
    bar.max = Math.max(job.total, 1);
    bar.value = job.finished;
    said.textContent = `${job.finished} of ${job.total} pictures`;
    if (job.state !== "running" && job.state !== "waiting") return location.reload();
  } catch {
    said.textContent = "The server does not answer; trying again.";
  }
  return setTimeout(look, pause);
}

look();
