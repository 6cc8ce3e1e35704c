/** A map as colours on a canvas, with the colours that the Python library uses. */

/**
 * @param {HTMLCanvasElement} canvas takes the map's size; the page stretches it over the photo
 * @param {{values: Float32Array, height: number, width: number}} cam one map; above 1 it is divided by its maximum
 * @param {number[][]} palette 256 colours [r, g, b], from those of 0 to those of 1
 */
export function drawHeatmap(canvas, { values, height, width }, palette) {
  [canvas.width, canvas.height] = [width, height];
  const picture = new ImageData(width, height);
  const scale = 256 / values.reduce((a, b) => Math.max(a, b), 1);
  values.forEach((value, n) => {
    const color = palette[Math.min(255, Math.floor(Math.max(0, value) * scale))];
    picture.data.set([...color, 255], 4 * n);
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
