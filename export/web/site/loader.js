/** The worker of elsewhere.js: download one network. */

import { downloadModel } from "./download.js";

addEventListener("message", async ({ data: url }) => {
  try {
    const bytes = await downloadModel(url, { onProgress: (...progress) => postMessage({ progress }) });
    postMessage({ bytes }, [bytes.buffer]);
  } catch (error) {
    postMessage({ refusal: error.message });
  }
});
