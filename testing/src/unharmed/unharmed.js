// Throws, collects, works in threads, starts a child, gets signals, keeps memory, spins, when it is told to. Says "right"
// when all of that went well, and ends at the end of its input.
const { Worker } = require("worker_threads");
const { spawnSync } = require("child_process");
let caught = 0, signals = 0, kept;

function deep(n) {
    if (n === 0) throw new Error("deep");
    return deep(n - 1) + 1;
}

function spin() {
    let sum = 0;
    for (const end = Date.now() + 200; Date.now() < end;) for (let i = 0; i < 1e5; i++) sum += i;
    return sum;
}

function all(then) {
    for (let i = 0; i < 300; i++) try { deep(50); } catch (e) { caught++; }
    kept = Array.from({ length: 40 }, () => Buffer.allocUnsafeSlow(123456));
    process.kill(process.pid, "SIGUSR2");
    const worker = new Worker("for (let i = 0; i < 1e5; i++) new Array(10);", { eval: true });
    worker.on("exit", (code) => setTimeout(() => {
        const child = spawnSync("/bin/sh", ["-c", "exit 3"]);
        spin();
        then(caught === 300 && signals > 0 && kept.length === 40 && code === 0 && child.status === 3);
    }, 10));
}

process.on("SIGUSR2", () => signals++);
process.stdin.once("data", () => all((right) => console.log(right ? "right" : "wrong")));
process.stdin.on("end", () => process.exit(0));
console.log("ready");
