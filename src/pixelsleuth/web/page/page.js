"use strict";
const at = (id) => document.getElementById(id);
const STEPS = ["input", "restoration", "look"];
let pictures = {};
let current = 0;

function headers() {
  return at("token").value ? { Authorization: "Bearer " + at("token").value } : {};
}

async function asked(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers() });
  if (answer.status === 401) at("token-row").hidden = false;
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.reason || "the server answered " + answer.status);
  }
  return answer;
}

function show() {
  const value = Number(at("slider").value);
  const low = Math.min(1, Math.floor(value));
  const shown = (name) => (pictures[name] || pictures.input || { uri: "" }).uri;
  at("under").src = shown(STEPS[low]);
  at("over").src = shown(STEPS[low + 1]);
  at("over").style.opacity = value - low;
  const name = STEPS[Math.round(value)];
  const caption = (pictures[name] || pictures.input || { caption: "" }).caption;
  at("shown").textContent = caption;
  at("under").alt = caption;
  at("slider").setAttribute("aria-valuetext", caption);
}

function present(told) {
  const record = told.record;
  pictures = told.pictures;
  at("words").textContent = told.words;
  at("words").className = record.verdict;
  at("explained").textContent = told.explained;
  at("no-signal").textContent = record.verdict === "not_applicable" ? "" : told.no_signal;
  document.querySelector("figure").hidden = !pictures.input;
  at("slider").value = 0;
  show();
  const parsed = new DOMParser().parseFromString(told.section, "text/html");
  const drawn = [...parsed.querySelectorAll("svg")].find((svg) => !svg.getAttribute("aria-label").startsWith("Colour scale"));
  at("histogram").replaceChildren(...(drawn && record.score !== null ? [document.importNode(drawn, true)] : []));
  at("regions").hidden = record.regions.length === 0;
  const body = at("regions").tBodies[0];
  body.replaceChildren(...record.regions.map((region) => {
    const row = document.createElement("tr");
    for (const text of [region.box.join(", "), region.p_value.toFixed(4)]) {
      row.appendChild(document.createElement("td")).textContent = text;
    }
    return row;
  }));
  at("record").textContent = JSON.stringify(record, null, 1);
  at("finding").hidden = false;
  at("words").focus();
}

async function fetchReport(id) {
  const blob = await (await asked("api/jobs/" + id + "/report")).blob();
  const link = at("report");
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
}

function remember(name, told) {
  const item = document.createElement("li");
  const button = item.appendChild(document.createElement("button"));
  button.type = "button";
  button.textContent = name + ": " + told.words;
  button.addEventListener("click", () => { present(told); fetchReport(told.id).catch(() => {}); });
  at("history").prepend(item);
  at("past").hidden = false;
}

async function ended(id, mine) {
  for (;;) {
    const told = await (await asked("api/jobs/" + id)).json();
    if (told.state === "failed") throw new Error(told.reason);
    if (told.state === "done") return told;
    if (mine === current) at("progress").textContent = told.state === "waiting" ? "Waiting for its turn…" : "Looking at it…";
    await new Promise((go) => setTimeout(go, 250));
  }
}

async function judge(file) {
  const mine = ++current;
  at("problem").textContent = "";
  at("progress").textContent = "Sending " + file.name + "…";
  at("finding").hidden = true;
  try {
    const form = new FormData();
    form.append("file", file);
    const { id } = await (await asked("api/jobs", { method: "POST", body: form })).json();
    const told = await ended(id, mine);
    remember(file.name, told);
    if (mine !== current) return;
    await fetchReport(id);
    present(told);
    at("progress").textContent = "";
  } catch (error) {
    if (mine !== current) return;
    at("progress").textContent = "";
    at("problem").textContent = error.message;
  }
}

async function start() {
  at("file").addEventListener("change", () => { if (at("file").files[0]) judge(at("file").files[0]); at("file").value = ""; });
  at("slider").addEventListener("input", show);
  const drop = at("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files[0]) judge(event.dataTransfer.files[0]);
    });
  }
  const names = await (await asked("api/examples")).json();
  at("examples").replaceChildren(...names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name.replaceAll("_", " ");
    button.addEventListener("click", async () => {
      const blob = await (await asked("api/examples/" + name)).blob();
      judge(new File([blob], name + ".jpg", { type: "image/jpeg" }));
    });
    return button;
  }));
}

start().catch((error) => { at("problem").textContent = error.message; });
