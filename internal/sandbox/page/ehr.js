"use strict";
const said = document.getElementById("said");
const rows = document.getElementById("rows");

async function press(button) {
  said.textContent = "Asking for a link…";
  try {
    const answer = await fetch("/press/" + button, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ clinician: document.getElementById("clinician").value }),
    });
    if (!answer.ok) {
      said.textContent = "No link could be made.";
      return;
    }
    const { link } = await answer.json();
    said.textContent = "The launcher has been asked to open it.";
    location.href = link;
  } catch {
    said.textContent = "The sandbox does not answer. Is it still running?";
  }
}

for (const button of document.querySelectorAll("button[data-button]")) {
  button.addEventListener("click", () => press(button.dataset.button));
}

async function exported(button) {
  try {
    const answer = await fetch("/exported/" + button, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ clinician: document.getElementById("clinician").value }),
    });
    said.textContent = answer.ok ? "Nabla has exported the note; the backend brings it here and tells the launcher." : await answer.text();
  } catch {
    said.textContent = "The sandbox does not answer. Is it still running?";
  }
}

for (const button of document.querySelectorAll("button[data-exported]")) {
  button.addEventListener("click", () => exported(button.dataset.exported));
}

function cell(text, name) {
  const td = document.createElement("td");
  td.textContent = text;
  if (name) td.className = name;
  return td;
}

const steps = ["link", "asked", "created", "url", "page"];
const stages = ["signing_in", "creating", "opening", "opened"];

const events = new EventSource("/timeline");
events.onmessage = (event) => {
  const list = JSON.parse(event.data);
  if (list.length === 0) return;
  for (const button of document.querySelectorAll("button[data-exported]")) {
    if (list.some((row) => row.what === "patient " + button.dataset.exported && "page" in row.steps)) button.disabled = false;
  }
  rows.replaceChildren(...list.map((row) => {
    const tr = document.createElement("tr");
    tr.append(cell(row.n), cell(row.what));
    for (const step of steps) tr.append(cell(row.steps[step] ?? "–", "ms"));
    for (const stage of stages) tr.append(cell(row.agent?.[stage] ?? "–", "ms"));
    tr.append(cell(row.result || "…", row.result === "opened" ? "good" : row.result ? "bad" : ""));
    return tr;
  }));
};
