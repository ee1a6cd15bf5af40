"use strict";
const at = (id) => document.getElementById(id);
const LAYERS = ["input", "restoration", "map", "look", "ela", "ghost", "noise"];
const LANGUAGES = { en: "English", de: "Deutsch" };
// Times that a silent server is asked for a result, a second apart.
const MAX_TRIES = 5;
let words = {};
let model = {};
let pictures = {};
let steps = [];
// Ends when the page has its words and knows its model, or has said that it could not.
let greeted;
// Counters, of which what began earlier holds an older value: a batch goes on as long as no other was handed in, and
// looking at results in the meantime neither ends it nor lets it change what is shown.
let batch = 0;
let view = 0;
// While files are compared, their progress is told and not the batch's.
let comparing = 0;
let results = [];

function say(key, values = {}) {
  return (words[key] ?? key).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
}

function number(value, digits = 0) {
  return value.toLocaleString(document.documentElement.lang, { maximumFractionDigits: digits });
}

function headers() {
  return at("token").value ? { Authorization: "Bearer " + at("token").value } : {};
}

async function asked(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers() });
  } catch (error) {
    throw Object.assign(new Error(words["page.silent"] ?? error.message), { silent: true });
  }
  if (answer.status === 401) {
    at("token-form").hidden = false;
    throw new Error(say("page.token.wanted"));
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const reason = told.reason || say("page.status", { status: answer.status });
    throw Object.assign(new Error(reason), { gone: answer.status === 404 });
  }
  return answer;
}

async function speak(code) {
  const texts = await (await asked("words/" + code)).json();
  // Another language may have been chosen while these were on their way.
  if (code !== at("language").value) return;
  words = texts;
  document.documentElement.lang = code;
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
}

function show() {
  const value = Number(at("slider").value);
  const low = Math.min(Math.max(0, steps.length - 2), Math.floor(value));
  const of = (k) => pictures[steps[Math.min(k, steps.length - 1)]];
  at("under").src = of(low).uri;
  at("over").src = of(low + 1).uri;
  at("over").style.opacity = value - low;
  const shown = Math.round(value);
  const caption = of(shown).caption;
  at("shown").textContent = caption;
  at("under").alt = caption;
  at("slider").setAttribute("aria-valuetext", caption);
  [...at("steps").children].forEach((button, k) => button.setAttribute("aria-pressed", String(k === shown)));
}

function lookAt(record) {
  steps = LAYERS.filter((name) => pictures[name]);
  // Where nothing was judged, traces of saving alone would look like a broken picture.
  if (!pictures.input && pictures.whole && steps.length) steps.unshift("whole");
  at("looks").hidden = steps.length === 0;
  if (steps.length === 0) return;
  at("slider").max = Math.max(1, steps.length - 1);
  // An alarm asks where: what few untouched images have, or, where nothing stands out so far, where to look.
  const alarm = record.verdict === "anomalous";
  const place = at("places").childElementCount ? "map" : "look";
  at("slider").value = alarm ? Math.max(0, steps.indexOf(place)) : 0;
  at("steps").replaceChildren(...steps.map((name, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = say("page.step." + name);
    button.addEventListener("click", () => { at("slider").value = k; show(); });
    return button;
  }));
  show();
}

function copied(part) {
  // What may be quoted gets a button that copies it.
  for (const quote of part.querySelectorAll("blockquote")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = say("page.copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(quote.textContent);
        button.textContent = say("page.copied");
      } catch {
        getSelection().selectAllChildren(quote);
        button.textContent = say("page.copy.failed");
      }
    });
    quote.after(button);
  }
  return part;
}

function present(result) {
  const { told, file } = result;
  const record = told.record;
  pictures = told.pictures;
  at("name").textContent = record.path;
  at("words").textContent = told.words;
  at("words").className = "verdict " + record.verdict;
  const parsed = new DOMParser().parseFromString(told.section, "text/html");
  const parts = (...names) => names.flatMap((name) => [...parsed.querySelectorAll(`[data-part="${name}"]`)])
    .map((part) => document.importNode(part, true));
  for (const name of ["answer", "places", "evidence", "cautions", "legend"]) at(name).replaceChildren(...parts(name));
  at("quotes").replaceChildren(...parts("quotes").map(copied));
  at("drawings").replaceChildren(...parts("timeline", "histogram", "promises", "faces", "notes"));
  lookAt(record);
  at("compare").hidden = record.kind !== "image" || at("looks").hidden || !file;
  const [against] = parts("against");
  at("pair").hidden = true;
  at("differs").replaceChildren(...(against ? [against] : []));
  if (against) {
    against.querySelector("h3").remove();
    lay(against);
  }
  at("record").textContent = JSON.stringify(record, null, 1);
  at("finding").hidden = false;
  for (const row of at("history").tBodies[0].rows) row.classList.toggle("shown", row.dataset.id === told.id);
  at("words").focus();
}

async function fetchReport(id, wanted) {
  const link = at("report");
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  // Until it is there, and where it is no longer kept, the link must not give another result's.
  link.removeAttribute("href");
  const blob = await (await asked("api/jobs/" + id + "/report")).blob();
  if (wanted === view) link.href = URL.createObjectURL(blob);
}

async function fetchTogether() {
  const ids = results.map((result) => "job=" + result.told.id).join("&");
  const blob = await (await asked("api/report?" + ids)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = "report.html";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

function atRest() {
  at("progress").textContent = "";
  at("steps-taken").hidden = true;
}

function told(problem) {
  atRest();
  at("problem").textContent = problem;
}

function remember(result) {
  const { record, words: headline, id } = result.told;
  results.push(result);
  const row = at("history").tBodies[0].insertRow();
  row.dataset.id = id;
  const button = row.insertCell().appendChild(document.createElement("button"));
  button.type = "button";
  button.textContent = record.path;
  button.addEventListener("click", () => {
    const wanted = ++view;
    at("problem").textContent = "";
    present(result);
    fetchReport(id, wanted).catch((error) => { if (wanted === view) at("problem").textContent = ofReport(error); });
  });
  const badge = row.insertCell().appendChild(document.createElement("span"));
  badge.className = "verdict " + record.verdict;
  badge.textContent = headline;
  row.insertCell().textContent = record.p_value === null ? "–" : number(record.p_value, 4);
  row.insertCell().textContent = record.p_value === null ? "–" : String(result.told.places);
  at("past").hidden = results.length < 2;
  at("together").hidden = results.length < 2;
}

function showProgress(job, name, seconds) {
  const { steps, state } = job;
  const clock = !steps && seconds >= 3 ? " " + say("page.seconds", { n: number(Math.floor(seconds)) }) : "";
  const text = say(state === "waiting" ? "page.waiting" : "page.looking", { name }) + clock;
  // A screen reader reads it anew at each change.
  if (at("progress").textContent !== text) at("progress").textContent = text;
  at("steps-taken").hidden = !steps;
  if (!steps) return;
  const left = steps.seconds_left;
  const stage = say("page.stage." + steps.stage + (model.takes.includes("volume") ? ".volume" : ""), { done: number(steps.done), total: number(steps.total) });
  const unit = left > 90 ? ["page.minutes_left", left / 60] : ["page.seconds_left", left];
  at("step").textContent = left === null ? stage : `${stage} ${say(unit[0], { n: number(Math.max(1, Math.ceil(unit[1]))) })}`;
  at("share").value = steps.share;
}

async function jobOf(id) {
  // The server goes on while a network changes or a laptop wakes up.
  for (let tries = 1; ; tries++) {
    try {
      return await (await asked("api/jobs/" + id)).json();
    } catch (error) {
      if (!error.silent || tries === MAX_TRIES) throw error;
    }
    await new Promise((go) => setTimeout(go, 1000));
  }
}

async function ended(id, name, telling) {
  const began = Date.now();
  for (;;) {
    const job = await jobOf(id);
    if (job.state === "failed") throw new Error(job.reason);
    if (job.state === "done") return job;
    if (telling()) showProgress(job, name, (Date.now() - began) / 1000);
    await new Promise((go) => setTimeout(go, 250));
  }
}

async function readable(file) {
  // A folder, or a file that is gone: sending it would fail as if the server were silent.
  const reader = file.stream().getReader();
  try {
    await reader.read();
  } catch {
    throw new Error(say("page.unreadable", { name: file.name }));
  }
  reader.cancel();
}

async function sent(file, place, telling, earlier) {
  for (const one of [file, earlier]) {
    if (one?.size > model.most_bytes) {
      throw new Error(say("page.too_large", { name: one.name, bytes: number(one.size), most: number(model.most_bytes) }));
    }
    if (one) await readable(one);
  }
  if (telling()) at("progress").textContent = say("page.sending", { name: file.name }) + place;
  const form = new FormData();
  form.append("file", file);
  form.append("language", document.documentElement.lang);
  if (earlier) form.append("against", earlier);
  const { id } = await (await asked("api/jobs", { method: "POST", body: form })).json();
  const result = { told: await ended(id, file.name + place, telling), file };
  remember(result);
  return result;
}

function ofReport(error) {
  return error.gone ? say("page.report.gone") : error.message;
}

async function ready() {
  await greeted;
  // Without a token or an answer neither words nor model were known when the page was opened.
  if (!words["page.silent"]) await speak(at("language").value);
  if (!model.takes) await greet();
}

async function judge(...files) {
  const mine = ++batch;
  const wanted = ++view;
  const telling = () => mine === batch && comparing === 0;
  at("finding").hidden = true;
  told("");
  try {
    await ready();
  } catch (error) {
    if (mine === batch) told(error.message);
    return;
  }
  const problems = [];
  let first = null;
  for (const [k, file] of files.entries()) {
    try {
      const result = await sent(file, files.length > 1 ? ` (${k + 1} / ${files.length})` : "", telling);
      first ??= result;
    } catch (error) {
      problems.push(error.message);
    }
    if (mine !== batch) return;
  }
  if (first && wanted === view) {
    await fetchReport(first.told.id, wanted).catch((error) => problems.push(ofReport(error)));
    if (wanted === view) present(first);
  }
  if (mine === batch) told([...new Set(problems)].join(" "));
}

async function compare(original) {
  const { told: { id }, file } = results.find((result) => result.told.id === at("history").querySelector(".shown").dataset.id);
  const wanted = ++view;
  told("");
  comparing++;
  try {
    const result = await sent(file, "", () => true, original);
    if (wanted !== view) return;
    // It takes the place of what was told without the copy.
    results = results.filter((one) => one.told.id !== id);
    at("history").querySelector(`[data-id="${id}"]`).remove();
    const problem = await fetchReport(result.told.id, wanted).then(() => "", ofReport);
    if (wanted !== view) return;
    present(result);
    at("compare").scrollIntoView();
    at("problem").textContent = problem;
  } catch (error) {
    at("problem").textContent = error.message;
  } finally {
    comparing--;
    atRest();
  }
}

function lay(part) {
  // The pictures of a comparison lie on each other: they get a slider between them.
  const [suspect, earlier] = ["this", "earlier"].map((name) => part.querySelector(`[data-layer="against_${name}"]`));
  at("pair").hidden = !suspect;
  if (!suspect) return;
  for (const [id, figure] of [["suspect", suspect], ["earlier", earlier]]) {
    at(id).src = figure.querySelector("img").src;
    at(id).alt = figure.querySelector("img").alt;
    figure.remove();
  }
  wipe();
}

function wipe() {
  at("earlier").style.clipPath = `inset(0 0 0 ${at("wiper").value}%)`;
}

async function greet() {
  [model] = await (await asked("api/models")).json();
  at("token-form").hidden = true;
  const size = number(model.most_bytes / 1e6, 1);
  const scans = model.takes.includes("volume");
  at("intro").textContent = say(scans ? "page.intro.scans" : "page.intro");
  at("takes").textContent = say(scans ? "page.takes.scans" : "page.takes");
  at("limit").textContent = say(scans ? "page.limit.scans" : "page.limit", { size });
  at("model").textContent = say("page.model", { name: model.name, n: number(model.n_calibration), things: say(scans ? "things.volume" : "things.picture"), rate: number(100 * model.max_false_alarm, 2) });
  const names = scans ? [] : await (await asked("api/examples")).json();
  at("try").hidden = names.length === 0;
  at("examples").replaceChildren(...names.map((name) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = say("page.example." + name);
    button.addEventListener("click", async () => {
      try {
        const blob = await (await asked("api/examples/" + name)).blob();
        judge(new File([blob], name + ".jpg", { type: "image/jpeg" }));
      } catch (error) {
        told(error.message);
      }
    });
    return button;
  }));
}

function listen() {
  at("file").addEventListener("change", () => { if (at("file").files.length) judge(...at("file").files); at("file").value = ""; });
  at("slider").addEventListener("input", show);
  at("wiper").addEventListener("input", wipe);
  at("original").addEventListener("change", () => { if (at("original").files[0]) compare(at("original").files[0]); at("original").value = ""; });
  at("together").addEventListener("click", () => fetchTogether().catch((error) => told(error.message)));
  at("zoom").addEventListener("click", () => {
    const close = at("frame").classList.toggle("close");
    at("zoom").setAttribute("aria-pressed", String(close));
  });
  at("language").addEventListener("change", async () => {
    try {
      await speak(at("language").value);
      await greet();
    } catch (error) {
      // Where no language was there before, this one is asked for again with the next file.
      if (words["page.silent"]) at("language").value = document.documentElement.lang;
      told(error.message);
    }
  });
  at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    told("");
    (model.takes ? greet() : ready()).catch((error) => told(error.message));
  });
  const drop = at("drop");
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) judge(...event.dataTransfer.files);
    });
  }
  // A browser opens a file that misses the field, in the place of the page.
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => { if (event.dataTransfer.types.includes("Files")) event.preventDefault(); });
  }
}

async function start() {
  const wanted = navigator.languages.map((code) => code.slice(0, 2)).find((code) => LANGUAGES[code]) ?? "en";
  at("language").replaceChildren(...Object.entries(LANGUAGES).map(([code, name]) => new Option(name, code, false, code === wanted)));
  at("languages").hidden = at("language").length < 2;
  await speak(wanted);
  await greet();
}

greeted = start().catch((error) => told(error.message));
// A file may be chosen while the words still come, or before this script has run at all.
listen();
if (at("file").files.length) at("file").dispatchEvent(new Event("change"));
