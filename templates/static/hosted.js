// Comfort only: every page works without it.
(() => {
  const page = document;
  page.documentElement.classList.add("js");

  // Show and hide a password; hidden again before it is sent, so that no form history keeps it.
  for (const button of page.querySelectorAll("[data-show]")) {
    const input = page.getElementById(button.dataset.show);
    const swap = () => {
      [input.type, input.dataset.was] = [input.dataset.was || "text", input.type];
      const { text, label } = button.dataset;
      [button.dataset.text, button.dataset.label] = [button.textContent, button.ariaLabel];
      [button.textContent, button.ariaLabel] = [text, label];
    };
    button.addEventListener("click", swap);
    input.form.addEventListener("submit", () => input.type === "text" && swap());
  }

  // A second click sends nothing twice; after a while it may, in case the first one was lost.
  for (const form of page.querySelectorAll("form[data-once]")) {
    form.addEventListener("submit", (event) => {
      if (form.dataset.sent) return event.preventDefault();
      form.dataset.sent = "1";
      setTimeout(() => delete form.dataset.sent, 8000);
    });
  }
  // What was typed beside a password that somebody forgot goes along; in the form, since addresses are written down.
  for (const link of page.querySelectorAll("[data-keep]")) {
    const input = page.getElementById(link.dataset.keep);
    link.addEventListener("click", (event) => {
      if (!input.value || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      for (const secret of input.form.querySelectorAll("[autocomplete=current-password]")) secret.value = "";
      input.form.insertAdjacentHTML("beforeend", '<input type="hidden" name="forgot" value="1">');
      input.form.submit();
    });
  }

  // Back from the browser's cache: forms are fresh again.
  addEventListener("pageshow", () => page.querySelectorAll("form").forEach((form) => delete form.dataset.sent));

  // Rules for a new password, ticked off while it is typed.
  for (const list of page.querySelectorAll("[data-rules]")) {
    const input = page.getElementById(list.dataset.rules);
    const met = page.getElementById("rules-met");
    input.addEventListener("input", () => {
      const typed = input.value.normalize("NFC");
      const folded = typed.toLowerCase();
      for (const item of list.children) {
        const { min, not } = item.dataset;
        if (min) {
          const enough = [...typed].length >= +min;
          item.className = typed && (enough ? "ok" : "");
          met.textContent = enough ? met.dataset.done : "";
        } else if (not) {
          const found = not.split("\n").some((word) => {
            const part = word.toLowerCase();
            return part.length > 3 && folded.includes(part) && folded.length - part.length < 8;
          });
          item.className = typed && (found ? "no" : "ok");
        }
      }
    });
  }

  // Proof of work: the number that, written behind the salt, has the given SHA-256. The page's own words are what
  // somebody reads whose browser cannot do this; the server then accepts that they waited.
  const box = page.querySelector("[data-challenge]");
  if (!box || !globalThis.crypto?.subtle) return;
  const { salt, target, most, signature } = box.dataset;
  const status = box.querySelector("[role=status]");
  const form = box.closest("form");
  const text = new TextEncoder();
  const wanted = Uint8Array.from(target.match(/../g), (pair) => parseInt(pair, 16));
  let pressed, solved = false;

  const fits = async (number) => {
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text.encode(salt + number)));
    return digest.every((byte, at) => byte === wanted[at]);
  };

  // Many at once, since each waits for another thread; the page stays usable in between.
  const solve = async () => {
    for (let from = 0; from <= +most; from += 500) {
      const found = await Promise.all(Array.from({ length: 500 }, (_, step) => fits(from + step)));
      if (found.includes(true)) return from + found.indexOf(true);
    }
  };

  // Sent while it still works: sent on by itself when it is done. Before other listeners, which send things once.
  page.addEventListener("submit", (event) => {
    if (solved || event.target !== form) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    pressed = event;
  }, true);

  const words = status.textContent;
  status.textContent = status.dataset.working;
  solve().then((number) => {
    solved = true;
    if (number === undefined) return void (status.textContent = words);
    const answer = { algorithm: "SHA-256", challenge: target, number, salt, signature };
    form.elements.challenge.value = btoa(JSON.stringify(answer));
    status.textContent = status.dataset.done;
    if (pressed) form.requestSubmit(pressed.submitter);
  });
})();
