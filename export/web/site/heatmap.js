/** Draw a map on a canvas, in the Python library's colors. */

/**
 * @param {HTMLCanvasElement} canvas gets the map's size; the page stretches it over the photo
 * @param {{values: Float32Array, height: number, width: number}} cam one map; values above 1 are
 *   divided by the maximum
 * @param {{palette: number[][], diverging: boolean}} look 256 colors [r, g, b], from value 0 to value 1; in a diverging
 *   map from -1 to 1
 */
export function drawHeatmap(canvas, { values, height, width }, { palette, diverging }) {
  [canvas.width, canvas.height] = [width, height];
  const picture = new ImageData(width, height);
  const largest = values.reduce((a, b) => Math.max(a, diverging ? Math.abs(b) : b), 1);
  values.forEach((value, n) => {
    const unit = diverging ? (value / largest + 1) / 2 : Math.max(0, value) / largest;
    const color = palette[Math.min(255, Math.floor(unit * 256))];
    picture.data.set([...color, 255], 4 * n);
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
