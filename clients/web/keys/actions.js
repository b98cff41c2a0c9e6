/**
 * All that can be done by a key or a button. Each has a name (its text is in texts/en.js), a group, default keys, and runs
 * on the App. `isOn(app)`: whether it can be done now.
 */

import { texts } from "../texts/en.js";

const ZOOM_STEP = 1.5;
const CURSOR_STEP = 16; // screen pixels

const tool = (name) => (app) => app.setTool(name);
const hasDraft = ({ labelling }) => Boolean(labelling.current);
const hasTargets = ({ labelling }) => labelling.targets.length > 0;
const hasPicture = ({ labelling }) => Boolean(labelling.picture?.width);
const hasSuggestions = ({ labelling }) => labelling.suggestions.length > 0;
const hasClip = ({ timeline }) => Boolean(timeline.clip);
const canAccept = ({ labelling, session }) => Boolean(labelling.current || labelling.suggestion || session.editing);

const ACTIONS = [
  ["label", "accept", ["Enter", "N"], (app) => app.labelling.accept(), canAccept],
  ["label", "clear", ["Esc"], (app) => app.labelling.clear()],
  ["label", "undo", ["Ctrl+Z", "Backspace"], (app) => app.undo(), ({ store }) => store.canUndo],
  ["label", "redo", ["Ctrl+Shift+Z", "Ctrl+Y"], (app) => app.redo(), ({ store }) => store.canRedo],
  ["label", "candidate1", ["1"], (app) => app.labelling.chooseCandidate(0)],
  ["label", "candidate2", ["2"], (app) => app.labelling.chooseCandidate(1)],
  ["label", "candidate3", ["3"], (app) => app.labelling.chooseCandidate(2)],
  ["label", "flipSign", ["T"], (app) => app.flipSign()],
  ["label", "edit", ["R"], (app) => app.labelling.edit(), ({ labelling }) => labelling.selected.length > 0],
  ["label", "remove", ["Delete", "X"], (app) => app.labelling.remove(), hasTargets],
  ["label", "duplicate", ["Ctrl+D"], (app) => app.labelling.duplicate(), ({ labelling }) => labelling.selected.length > 0],
  ["tools", "toolSegment", ["S"], tool("segment")],
  ["tools", "toolBoxes", ["M"], tool("boxes")],
  ["tools", "toolBrush", ["B"], tool("brush")],
  ["tools", "toolErase", ["E"], tool("erase")],
  ["tools", "toolSelect", ["V"], tool("select")],
  ["tools", "toolPan", ["H"], tool("pan")],
  ["tools", "brushSmaller", ["["], (app) => app.resizeBrush(1 / 1.25)],
  ["tools", "brushLarger", ["]"], (app) => app.resizeBrush(1.25)],
  ["refine", "clean", ["C"], (app) => app.labelling.clean(), hasTargets],
  ["refine", "split", ["P"], (app) => app.labelling.split(), hasTargets],
  ["refine", "join", ["U"], (app) => app.labelling.join(), ({ labelling }) => labelling.selected.length > 1],
  ["refine", "tightenBox", ["I"], (app) => app.labelling.tightenBox(), hasTargets],
  ["refine", "removeOverlaps", [], (app) => app.labelling.removeOverlaps(), hasPicture],
  ["find", "everything", ["F"], (app) => app.findEverything(), (app) => hasPicture(app) && app.session.chosenModel?.automatic?.length !== 0],
  ["find", "similar", ["L"], (app) => app.findSimilar(), ({ labelling }) => labelling.selected.some(({ mask }) => mask)],
  ["find", "semantic", ["O"], (app) => app.findClasses(), (app) => hasPicture(app) && app.session.models.some(({ kind }) => kind === "semantic")],
  ["find", "skip", ["W"], (app) => app.labelling.nextSuggestion(), hasSuggestions],
  ["find", "acceptAll", ["Shift+Enter"], (app) => app.labelling.acceptAll(), hasSuggestions],
  ["go", "nextPicture", ["D", "PageDown"], (app) => app.stepPicture(1)],
  ["go", "previousPicture", ["A", "PageUp"], (app) => app.stepPicture(-1)],
  ["go", "nextObject", ["J"], (app) => app.labelling.step(1)],
  ["go", "previousObject", ["K"], (app) => app.labelling.step(-1)],
  ["go", "selectAll", ["Ctrl+A"], (app) => app.labelling.select(app.labelling.objects.filter(({ state }) => state === "done").map(({ id }) => id)), hasPicture],
  ["go", "cursorLeft", ["Left", "Shift+Left"], (app, event) => app.moveCursor(-CURSOR_STEP, 0, event), hasPicture],
  ["go", "cursorRight", ["Right", "Shift+Right"], (app, event) => app.moveCursor(CURSOR_STEP, 0, event), hasPicture],
  ["go", "cursorUp", ["Up", "Shift+Up"], (app, event) => app.moveCursor(0, -CURSOR_STEP, event), hasPicture],
  ["go", "cursorDown", ["Down", "Shift+Down"], (app, event) => app.moveCursor(0, CURSOR_STEP, event), hasPicture],
  ["go", "clickCursor", ["."], (app) => app.clickCursor(1), hasPicture],
  ["go", "clickCursorOff", [","], (app) => app.clickCursor(0), hasPicture],
  ["frames", "nextFrame", [">", "Ctrl+Right"], (app, event) => app.timeline.step(1, event?.repeat), hasClip],
  ["frames", "previousFrame", ["<", "Ctrl+Left"], (app, event) => app.timeline.step(-1, event?.repeat), hasClip],
  ["frames", "firstFrame", ["Home"], (app) => app.timeline.go(0), hasClip],
  ["frames", "lastFrame", ["End"], (app) => app.timeline.go(app.timeline.count - 1), hasClip],
  ["frames", "nextDoubt", ["G"], (app) => app.timeline.goToDoubt(), hasClip],
  ["frames", "reviewed", ["Q"], (app) => app.timeline.setReviewed(!app.timeline.picture.reviewed), hasClip],
  ["frames", "follow", ["Shift+F"], (app) => app.timeline.follow(), (app) => hasClip(app) && app.timeline.propagation.hasNews],
  ["view", "zoomIn", ["+", "="], (app) => app.viewer.zoom(ZOOM_STEP), hasPicture],
  ["view", "zoomOut", ["-"], (app) => app.viewer.zoom(1 / ZOOM_STEP), hasPicture],
  ["view", "fit", ["0"], (app) => app.viewer.fit(), hasPicture],
  ["view", "hideMasks", ["Shift+H"], (app) => app.toggleMasks()],
  ["view", "hover", ["Y"], (app) => app.toggleHover()],
  ["view", "keys", ["?"], (app) => app.session.set({ dialog: "keys" })],
  ["files", "open", ["Ctrl+O"], (app) => app.chooseFiles()],
  ["files", "importLabels", ["Ctrl+I"], (app) => app.chooseLabels()],
  ["files", "exportLabels", ["Ctrl+S"], (app) => app.session.set({ dialog: "export" })],
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => ["classes", `class${number}`, [`Alt+${number}`], (app) => app.chooseClass(number - 1)]),
];

export const actions = ACTIONS.map(([group, name, keys, run, isOn = () => true]) => ({ group, name, keys, run, isOn }));

export const actionByName = new Map(actions.map((action) => [action.name, action]));

/** What an action is called. */
export const actionText = (name) => (/^class\d$/.test(name) ? texts.actions.class(Number(name.slice(5))) : texts.actions[name]);
