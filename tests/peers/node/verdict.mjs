/* A relying party's report: every check by name, in order, with what went wrong; printed as JSON. */

export async function task() {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString());
}

export class Verdict {
  checks = [];

  /** Run one check. Later checks need it, so the report ends at the first that fails. */
  async check(name, work) {
    try {
      const value = await work();
      this.checks.push({ name, ok: true });
      return value;
    } catch (error) {
      const causes = [];
      for (let cause = error; cause && causes.length < 4; cause = cause.cause) {
        causes.push(cause instanceof Error ? `${cause.name}: ${cause.message} ${cause.error ?? ''} ${cause.error_description ?? ''}`.trim() : JSON.stringify(cause));
      }
      this.checks.push({ name, ok: false, why: causes.join(' <- ') });
      this.print();
      process.exit(1);
    }
  }

  /** A check that wants to be refused with this OAuth error. */
  async refused(name, error, work) {
    return this.check(name, async () => {
      let value;
      try {
        value = await work();
      } catch (problem) {
        if (problem.error === error) return;
        throw problem;
      }
      throw new Error(`not refused: ${JSON.stringify(value)}`);
    });
  }

  print(facts = {}) {
    process.stdout.write(`${JSON.stringify({ ok: this.checks.every(({ ok }) => ok), checks: this.checks, ...facts })}\n`);
  }
}

export function demand(condition, problem) {
  if (!condition) throw new Error(problem);
}
