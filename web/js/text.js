// Keeps what a node of this pack said on the node after the run.
//
// While a node writes, the host streams its text into a widget of the frontend's own, which newer
// frontends (from 1.55 on) take away when the job ends. A node that returns `ui: {text: [...]}`
// therefore shows it here, in a read-only field that is not saved with the workflow.

import { app } from "../../../scripts/app.js";

const FIELD = "shown_text";
const STREAMED = "$$node-text-preview"; // the frontend's widget for text that still grows
const OWN_VIEW = new Set(["BLIP3U_Converse", "BLIP3U_ShowChat"]); // chat.js shows these

function addField(node) {
  const { widget } = app.widgets.STRING(node, FIELD, ["STRING", { multiline: true }], app);
  widget.label = "text";
  widget.serialize = false; // not into the workflow file,
  widget.options.serialize = false; // not into the prompt
  widget.options.read_only = true;
  if (widget.element) widget.element.readOnly = true;
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  return widget;
}

function removeStreamed(node) {
  const widget = node.widgets.find((w) => w.name === STREAMED);
  if (!widget) return;
  widget.onRemove?.();
  node.widgets.splice(node.widgets.indexOf(widget), 1);
}

function show(node, output) {
  if (!output?.text?.length || OWN_VIEW.has(node.comfyClass)) return;
  const field = node.widgets?.find((w) => w.name === FIELD) ?? addField(node);
  field.value = output.text.join("\n\n");
  removeStreamed(node);
  node.setDirtyCanvas(true, true);
}

// A node by the frontend's locator: "5" on the root graph, "<subgraph id>:5" inside a subgraph.
function nodeAt(locator) {
  const root = app.rootGraph ?? app.graph;
  const [id, subgraph] = String(locator).split(":").reverse();
  return (subgraph ? root.subgraphs?.get(subgraph) : root)?.getNodeById(id);
}

app.registerExtension({
  name: "BLIP3-U.text",

  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("BLIP3U_")) return;
    const { onExecuted } = nodeType.prototype;
    nodeType.prototype.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      show(this, output);
    };
  },

  // Newer frontends: outputs come back with an open workflow's tab.
  onNodeOutputsUpdated(outputs) {
    for (const [locator, output] of Object.entries(outputs)) {
      const node = nodeAt(locator);
      if (node?.comfyClass?.startsWith("BLIP3U_")) show(node, output);
    }
  },
});
