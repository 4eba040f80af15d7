// Workflows saved as apps open as graphs where the front end cannot show their form: those before app mode, such as
// 1.32.9, which comes with ComfyUI 0.3.75, have a draft of it, which lists every input of every node.

import { app } from "../../scripts/app.js";

app.registerExtension({
  name: "kolors.appMode",
  beforeConfigureGraph({ extra }) {
    const hasForms = app.extensionManager.getSidebarTabs().some((tab) => tab.id === "apps");
    if (extra?.linearData && !hasForms) {
      delete extra.linearMode;
    }
  },
});
