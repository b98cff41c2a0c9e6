/** Keys as text, such as "Ctrl+Shift+Z": how they are written, and which one an event is. */

const NAMES = { " ": "Space", ArrowLeft: "Left", ArrowRight: "Right", ArrowUp: "Up", ArrowDown: "Down", Escape: "Esc" };
const MODIFIERS = new Set(["Control", "Shift", "Alt", "Meta"]);

/** The key of a keydown event; "" for a modifier alone. The command key counts as Ctrl. */
export function keyOf(event) {
  if (MODIFIERS.has(event.key)) return "";
  // With Alt some systems write other signs than the keys have.
  const digit = event.altKey && /^Digit(\d)$/.exec(event.code ?? "")?.[1];
  const name = digit || NAMES[event.key] || (event.key.length === 1 ? event.key.toUpperCase() : event.key);
  // Shift is part of a sign such as "?"; it is named for letters and for named keys.
  const shift = event.shiftKey && (name.length > 1 || /^[A-Z]$/.test(name));
  return [(event.ctrlKey || event.metaKey) && "Ctrl", event.altKey && "Alt", shift && "Shift", name].filter(Boolean).join("+");
}

/** Which key each action has. actions: [{name, keys}]; own: action -> key, the user's. @returns {Map<string, string[]>} */
export const keysOf = (actions, own) => new Map(actions.map(({ name, keys }) => [name, name in own ? [own[name]].filter(Boolean) : keys]));

/** The name of the action that a key has, or undefined. */
export function actionOf(key, actions, own) {
  // A key that the user gave to an action goes before the default of another one.
  return Object.keys(own).find((name) => own[name] === key && actions.some((action) => action.name === name))
    ?? actions.find(({ name, keys }) => !(name in own) && keys.includes(key))?.name;
}

/** The user's keys with one more; the action that had it before has none then. */
export function withKey(own, actions, name, key) {
  const before = actionOf(key, actions, own);
  return { ...own, ...(before && before !== name ? { [before]: "" } : {}), [name]: key };
}
