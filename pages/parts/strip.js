// Token strips. Text is set with textContent alone; nothing that arrives here is ever read as HTML.
// One stop of the tab key per strip, its peak; arrows go from token to token and from strip to strip.

const drawn = new WeakMap()

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".strips")
  if (!root || !data) return
  const state = JSON.stringify(data)
  const seen = drawn.get(root) ?? listen(root)
  if (seen.state !== state) {
    Object.assign(seen, { state, data })
    draw(root, seen)
    centreAll(root)
  }
  return () => seen.observer.disconnect()
}

// Once a place: what is drawn in it later is heard by the same ears.
function listen(root) {
  const seen = { observer: new ResizeObserver(() => centreAll(root)) }
  const on = (kind, act) => root.addEventListener(kind, (event) => act(tokenOf(event), event))
  on("pointerover", (token) => showTip(root, seen, token))
  on("pointerleave", () => showTip(root, seen, root.querySelector(".token:focus")))
  on("click", (token) => token?.focus({ preventScroll: true }))
  on("focusin", (token) => arrive(root, seen, token))
  on("focusout", (token) => leave(seen, token))
  on("keydown", (token, event) => move(root, token, event))
  seen.observer.observe(root)
  drawn.set(root, seen)
  return seen
}

function draw(root, seen) {
  const { data } = seen
  const most = Math.max(0, ...data.strips.flatMap((strip) => strip.lines.flatMap((line) => line.values)))
  seen.tip = make("div", "tip")
  seen.tip.hidden = true
  const list = make("div", data.view)
  list.setAttribute("role", "list")
  list.setAttribute("aria-label", data.name)
  data.strips.forEach((strip, at) => list.append(drawStrip(strip, at, data, most)))
  root.replaceChildren(list, seen.tip)
}

function drawStrip(strip, at, data, most) {
  const several = strip.lines.length > 1
  const scale = data.scale === "own" ? Math.max(0, ...strip.lines.flatMap((line) => line.values)) : most
  const box = make("div", several ? "strip several" : "strip")
  box.setAttribute("role", "listitem")
  const lines = make("div", "lines")
  if (strip.trouble) lines.append(make("div", "trouble", strip.trouble))
  else strip.lines.forEach((line, which) => lines.append(drawLine(strip, line, at, which, scale, several)))
  const meta = make("div", "meta")
  meta.append(make("span", "value", strip.value), make("span", "place", strip.place))
  box.append(lines, meta)
  return box
}

function drawLine(strip, line, at, which, scale, several) {
  const row = make("div", "line")
  if (several) row.append(make("span", "arm", line.arm))
  const tokens = make("div", "tokens")
  tokens.setAttribute("role", "listbox")
  tokens.setAttribute("aria-orientation", "horizontal")
  tokens.setAttribute("aria-label", `Example ${at + 1}, ${line.arm}, ${strip.place}`)
  const fires = strip.lines.some((other) => other.values.some((value) => value > 0))
  strip.tokens.forEach((runs, place) => {
    const value = line.values[place]
    const token = make("span", "token")
    const share = scale > 0 && value > 0 ? value / scale : 0
    token.classList.toggle("silent", !share)
    token.classList.toggle("peak", fires && place === strip.peak)
    // What is not nothing is seen, however weak.
    token.style.setProperty("--share", share ? (0.1 + 0.9 * share).toFixed(3) : "0")
    token.setAttribute("role", "option")
    token.setAttribute("aria-selected", String(fires && place === strip.peak))
    token.setAttribute("aria-label", `${runs.join("").trim() || "space"}: ${told(value)}`)
    token.tabIndex = place === strip.peak && which === 0 ? 0 : -1
    Object.assign(token.dataset, { at, which, place })
    runs.forEach((text, turn) => {
      if (!text) return
      token.append(turn % 2 ? make("span", "mark", text) : text)
      if (turn % 2 && text.includes("↵")) token.append(document.createElement("br"))
    })
    tokens.append(token)
  })
  row.append(tokens)
  return row
}

function centreAll(root) {
  for (const tokens of root.querySelectorAll(".compact .tokens")) {
    if (!tokens.contains(tokens.getRootNode().activeElement)) centre(tokens)
  }
}

// The peaks of all strips stand in one line, below each other.
function centre(tokens) {
  const peak = tokens.querySelector(".peak")
  if (!peak) return
  const [outer, inner] = [tokens.getBoundingClientRect(), peak.getBoundingClientRect()]
  tokens.scrollLeft += inner.left + inner.width / 2 - outer.left - outer.width / 2
}

function move(root, token, event) {
  if (!token || event.ctrlKey || event.metaKey || event.altKey) return
  const tokens = token.parentElement
  const every = [...root.querySelectorAll(".tokens")]
  const next = {
    ArrowLeft: () => token.previousElementSibling,
    ArrowRight: () => token.nextElementSibling,
    Home: () => tokens.firstElementChild,
    End: () => tokens.lastElementChild,
    ArrowUp: () => start(every[every.indexOf(tokens) - 1]),
    ArrowDown: () => start(every[every.indexOf(tokens) + 1]),
  }[event.key]
  if (!next) return
  event.preventDefault()
  next()?.focus()
}

function start(tokens) {
  return tokens?.querySelector(".peak") ?? tokens?.firstElementChild
}

function arrive(root, seen, token) {
  if (!token) return
  for (const other of token.parentElement.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1
  token.tabIndex = 0
  showTip(root, seen, token)
}

function leave({ tip }, token) {
  tip.hidden = true
  const tokens = token?.closest(".compact .tokens")
  // After the next token has the focus, so that moving on within a strip does not throw it back.
  if (tokens) requestAnimationFrame(() => tokens.contains(tokens.getRootNode().activeElement) || centre(tokens))
}

function showTip(root, { tip, data }, token) {
  tip.hidden = !token
  if (!token) return
  const { at, which, place } = token.dataset
  const strip = data.strips[at]
  tip.replaceChildren()
  strip.lines.forEach((line, number) => {
    const text = `${strip.lines.length > 1 ? `${line.arm}: ` : ""}${told(line.values[place])}`
    tip.append(number ? "\n" : "", number === Number(which) ? make("b", "", text) : text)
  })
  const [outer, inner] = [root.getBoundingClientRect(), token.getClientRects()[0] ?? token.getBoundingClientRect()]
  const left = inner.left - outer.left + inner.width / 2 - tip.offsetWidth / 2
  const above = inner.top - outer.top - tip.offsetHeight - 6
  tip.style.left = `${Math.max(0, Math.min(left, outer.width - tip.offsetWidth))}px`
  tip.style.top = `${above < -40 ? inner.bottom - outer.top + 6 : above}px`
}

// Three digits, as everywhere on the page.
function told(value) {
  if (value === null) return "not read"
  if (!value) return "0"
  const size = Math.abs(value)
  return size >= 1000 ? value.toFixed(0) : size >= 1e-4 ? value.toPrecision(3) : value.toExponential(1)
}

function tokenOf(event) {
  return event.target.closest?.(".token") ?? null
}

function make(kind, name, text) {
  const made = document.createElement(kind)
  if (name) made.className = name
  if (text !== undefined) made.textContent = text
  return made
}
