// Adds a switch to the page that loads it again every ten seconds. The choice holds for the tab.
"use strict";
(() => {
  const key = "tallygate-refresh";
  const button = document.createElement("button");
  let timer = 0;
  const show = () => {
    const on = sessionStorage.getItem(key) === "on";
    button.setAttribute("aria-pressed", String(on));
    clearTimeout(timer);
    if (on) {
      timer = setTimeout(() => location.reload(), 10000);
    }
  };
  button.type = "button";
  button.className = "refresh";
  button.textContent = "Refresh every 10 s";
  button.addEventListener("click", () => {
    sessionStorage.setItem(key, button.getAttribute("aria-pressed") === "true" ? "off" : "on");
    show();
  });
  document.getElementById("refresh").append(button);
  show();
})();
