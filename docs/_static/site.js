// On a narrow screen the cells of a table stand below each other: each says which column it is of.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.docutils")) {
    const names = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, column) => {
        if (names[column]) cell.dataset.label = names[column];
      });
    }
  }
  const narrow = matchMedia("(max-width: 46em)").matches;
  for (const block of document.querySelectorAll(".highlight-console pre")) {
    if (/^Usage: /m.test(block.textContent)) {
      if (narrow) flow(block);
      continue;
    }
    // A line that a program prints in columns is not wrapped.
    for (const line of block.querySelectorAll(".go")) {
      if (/\S {3,}\S/.test(line.textContent)) line.classList.add("columns");
    }
  }
});

// On a narrow screen a help text is not in columns: what is said of an option stands under it.
function flow(block) {
  const parts = [];
  const add = (kind, text) => parts.push({ kind, text });
  const goOn = (kind, text) => {
    if (parts.at(-1)?.kind === kind) parts.at(-1).text += ` ${text}`;
    else add(kind, text);
  };
  for (const line of block.textContent.trimEnd().split("\n")) {
    const option = line.match(/^ {2}(-.*?\S)(?: {2,}(?!\[)(\S.*))?$/);
    if (option) {
      add("option", option[1]);
      if (option[2]) add("words", option[2]);
    } else if (/^ {20,}/.test(line)) goOn("words", line.trim());
    else if (/^ {2}\S/.test(line)) goOn("paragraph", line.trim());
    else add("line", line);
  }
  block.replaceChildren(
    ...parts.map(({ kind, text }) => {
      const part = document.createElement("span");
      part.className = `go help-${kind}`;
      part.textContent = `${text}\n`;
      return part;
    }),
  );
}
