"use strict";

const find = (id) => document.getElementById(id);
const buttons = [...document.querySelectorAll("[data-choice]")];
const KEYS = { ArrowLeft: "left", ArrowDown: "same", " ": "same", ArrowRight: "right", Backspace: "undo" };
const SMALL = 256; // pixels; smaller pictures are shown as they are, without blur
let pair = null;
let done = 0;
let busy = true;

function loaded(image, ticket) {
  return new Promise((resolve, reject) => {
    image.onload = () => {
      image.classList.toggle("small", image.naturalWidth < SMALL);
      resolve();
    };
    image.onerror = () => reject(new Error("A picture could not be loaded."));
    image.src = `/pictures/${ticket}`;
  });
}

async function ask(path, body) {
  const how = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, how);
  if (!answer.ok) throw new Error((await answer.json()).detail ?? `The server answered ${answer.status}.`);
  return answer.json();
}

async function show(state) {
  pair = state.pair;
  done = state.done;
  find("bar").max = Math.max(state.total, 1);
  find("bar").value = state.done;
  find("count").textContent = `${state.done} of ${state.total}`;
  if (pair) {
    find("prompt").textContent = pair.prompt ?? "";
    find("given").hidden = !pair.given;
    const wanted = [loaded(find("left"), pair.left), loaded(find("right"), pair.right)];
    if (pair.given) wanted.push(loaded(find("given"), pair.given));
    await Promise.all(wanted);
    find("status").textContent = `Pair ${state.done + 1} of ${state.total}. ${pair.prompt ?? ""}`;
  } else {
    find("thanks").textContent = state.total ? "All done. Thank you!" : "There is nothing to vote on yet.";
    find("summary").textContent = state.total ? `You voted on all ${state.total} pairs.` : "Make pairs with vd vote make.";
  }
  const ended = find("end").hidden && !pair;
  find("vote").hidden = !pair;
  find("end").hidden = Boolean(pair);
  if (ended) find("thanks").focus();
}

async function go(path, body) {
  busy = true;
  refresh();
  find("problem").hidden = true;
  try {
    await show(await ask(path, body));
  } catch (error) {
    find("problem").textContent = `${error.message} Is vd vote open still running? Reload the page to go on.`;
    find("problem").hidden = false;
  }
  busy = false;
  refresh();
}

function refresh() {
  for (const button of buttons) {
    button.setAttribute("aria-disabled", String(busy || !pair));
    button.classList.remove("chosen");
  }
  find("undo").disabled = busy || done === 0;
}

function act(what) {
  if (busy) return;
  if (what === "undo") {
    if (done) go("/undo", {});
  } else if (pair) {
    const ticket = pair.ticket;
    go("/vote", { pair: ticket, choice: what });
    buttons.find((button) => button.dataset.choice === what).classList.add("chosen");
  }
}

for (const button of buttons) button.addEventListener("click", () => act(button.dataset.choice));
find("undo").addEventListener("click", () => act("undo"));
document.addEventListener("keydown", (event) => {
  const what = KEYS[event.key];
  if (!what || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target instanceof HTMLButtonElement) return; // presses that button
  event.preventDefault();
  act(what);
});
go("/state");
