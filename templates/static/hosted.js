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
})();
