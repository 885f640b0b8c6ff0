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
  // A line that a program prints in columns is not wrapped.
  for (const line of document.querySelectorAll(".highlight-console .go")) {
    if (/\S {3,}\S/.test(line.textContent)) line.classList.add("columns");
  }
});
