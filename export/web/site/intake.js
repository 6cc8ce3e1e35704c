/** Take files that are chosen, dropped anywhere on the page, or pasted. */

/** @param {(file: File) => void} take is called with each file */
export function listenForFiles(take) {
  for (const id of ["file", "model-file"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      if (input.files.length) take(input.files[0]);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  let depth = 0; // the event of entering a child comes before that of leaving its parent
  const hover = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("hover", depth > 0);
  };
  addEventListener("dragenter", () => hover(1));
  addEventListener("dragleave", () => hover(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    hover(-depth);
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files[0]);
  });
}
