// Every page works without this file: it searches while one types, copies, and opens the search with "/".
"use strict";

function searchAsYouType(input) {
  const results = document.querySelector(input.dataset.live);
  if (!results) return;
  let timer = 0;
  let request = null;

  async function search() {
    if (request) request.abort();
    request = new AbortController();
    const query = input.value.trim();
    const address = query ? "/search?q=" + encodeURIComponent(query) : "/";
    try {
      const answer = await fetch(address + (query ? "&" : "?") + "part=1", { signal: request.signal });
      if (!answer.ok) return;
      // the server escaped it, and the page's policy runs no script but this file
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      results.replaceChildren(...page.body.childNodes);
      results.removeAttribute("aria-busy");
      history.replaceState(null, "", address);
    } catch (error) {
      if (error.name !== "AbortError") results.removeAttribute("aria-busy");
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(timer);
    results.setAttribute("aria-busy", "true");
    timer = setTimeout(search, 120);
  });
}

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  // without TLS, browsers only have the old way
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("not copied");
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    let word = "Copied";
    try {
      await copy(button.dataset.copy);
    } catch {
      word = "Press Ctrl+C";
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
    }
    button.textContent = word;
    button.classList.add("did");
    setTimeout(() => {
      button.textContent = "Copy";
      button.classList.remove("did");
    }, 1600);
  });
}

for (const input of document.querySelectorAll("[data-live]")) searchAsYouType(input);

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const input = document.querySelector("[data-slash]");
  if (input) {
    event.preventDefault();
    input.focus();
    input.select();
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
