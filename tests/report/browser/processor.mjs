/** The seconds of the processor that the browser takes, which say how long a page takes to open on a machine that waits for it. */

import { readdirSync, readFileSync } from "node:fs";

const TICKS = 100; // of Linux, in a second

/** Parent and seconds of the processor of every process. */
function readProcesses() {
  const found = new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const fields = readFileSync(`/proc/${pid}/stat`, "utf-8").replace(/^.*\) /s, "").split(" ");
      found.set(Number(pid), { parent: Number(fields[1]), seconds: (Number(fields[11]) + Number(fields[12])) / TICKS });
    } catch {
      continue; // it has just ended
    }
  }
  return found;
}

/** The seconds of all processes that this one started. */
export function measureChildren() {
  const all = readProcesses();
  const isOurs = (one) => all.has(one) && (all.get(one).parent === process.pid || isOurs(all.get(one).parent));
  return [...all].filter(([one]) => isOurs(one)).reduce((sum, [, { seconds }]) => sum + seconds, 0);
}
