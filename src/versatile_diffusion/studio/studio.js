// What gradio leaves out of the keyboard: arrow keys, Home and End choose a tab.
() => document.addEventListener("keydown", event => {
  const tabs = event.target.closest?.(".vd-tabs [role=tablist]");
  if (!tabs || event.target.role !== "tab") return;
  const all = [...tabs.querySelectorAll("[role=tab]")];
  const from = all.indexOf(event.target);
  const to = {ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: all.length - 1}[event.key];
  if (to === undefined) return;
  const tab = all[(to + all.length) % all.length];
  event.preventDefault();
  tab.click();
  tab.focus();
})
