/** Open sessions of onnxruntime-web: on WebGPU where there is a graphics card, else on WebAssembly. */

const VENDOR = new URL("./assets/vendor/", import.meta.url).href;
const MODULES = { webgpu: "ort.webgpu.min.mjs", wasm: "ort.wasm.min.mjs" };

/**
 * @param {string | null} wanted "webgpu" or "wasm"; null: by the device
 * @returns {Promise<string[]>} backends to try, best first
 */
export async function listBackends(wanted) {
  if (wanted) return [wanted];
  return (await hasGraphicsCard()) ? ["webgpu", "wasm"] : ["wasm"];
}

/** Whether there is a real graphics card: an emulated one is slower than WebAssembly. */
async function hasGraphicsCard() {
  try {
    const adapter = await navigator.gpu?.requestAdapter();
    return Boolean(adapter) && !(adapter.info ?? adapter).isFallbackAdapter;
  } catch {
    return false; // a browser with WebGPU switched off may throw
  }
}

/**
 * @param {string} backend "webgpu" or "wasm"
 * @param {Uint8Array} model the ONNX file
 * @param {number | null} threads the threads of WebAssembly; null: see `chooseThreadCount`
 * @param {string} imageName the graph's input for the image
 * @returns {Promise<{run: Function, release: Function, label: string}>} `run(image, classIdx)`,
 *   where classIdx is a list for artifacts that explain several classes or boxes
 */
export async function openSession(backend, model, threads, imageName) {
  const ort = await import(VENDOR + MODULES[backend]);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = VENDOR;
  ort.env.wasm.numThreads = chooseThreadCount(threads);
  const session = await ort.InferenceSession.create(model, {
    executionProviders: [backend],
    logSeverityLevel: 3, // errors only
  });
  const run = ({ type, values, shape }, classIdx) => session.run({
    [imageName]: new ort.Tensor(type, values, shape),
    class_idx: new ort.Tensor("int64", BigInt64Array.from([classIdx].flat(), BigInt), [1, ...measure(classIdx)]),
  });
  const count = ort.env.wasm.numThreads;
  const label = backend === "webgpu" ? "WebGPU" : `WebAssembly, ${count} thread${count === 1 ? "" : "s"}`;
  return { run, release: () => session.release(), label };
}

/** The shape of the classes of one image: none for a single class. */
function measure(classIdx) {
  return Array.isArray(classIdx) ? [classIdx.length] : [];
}

/**
 * Choose the number of threads: that of the cores, four at most. Browsers let only pages with the COOP and COEP headers share memory.
 */
function chooseThreadCount(wanted) {
  if (!globalThis.crossOriginIsolated) return 1;
  const cores = navigator.hardwareConcurrency || 1;
  return wanted ?? Math.min(4, cores);
}
