"""How the page looks, and what it does in the browser: CSS, JavaScript, theme, fonts."""

from __future__ import annotations

import json

import gradio as gr

from masa.config import MASAConfig
from masa.pictures.formats import ACCEPTED, FORMATS

CSS = """
.gradio-container { max-width: 1500px !important; margin: auto; }
.progress progress { width: 100%; height: 10px; }
.gradio-container h3 { margin-top: 0.4em; }
#network [data-tab] { cursor: pointer; }
#examples button { width: 100%; text-align: left; }
#examples button > span { display: block; }
#examples button .gallery { display: flex; align-items: center; gap: 6px; padding: 4px; }
#examples img { width: 64px; height: 48px; margin: 0; border-radius: 4px; flex: none; }
#examples .gallery span { margin-left: 4px; line-height: 1.3; }
#refs .grid-wrap { padding-top: 34px; }
/* A photo that the browser cannot show. */
img[data-unshown] { display: none !important; }
:has(> img[data-unshown])::after {
  display: block; padding: 8px; font-size: 13px; line-height: 1.3; text-align: center;
  color: var(--body-text-color-subdued);
  content: "No preview in this browser. HEIC and TIFF photos work all the same.";
}
#photo :has(> img[data-unshown])::after { padding: 64px 24px; }
/* A figure's buttons stand above it, where they hide none of its words. */
.figure .image-container { padding-top: 32px; }
.figure.picks .image-container > button:focus-visible {
  outline: 3px solid var(--primary-500); outline-offset: -3px;
}
/* Controls of a tab stand below the row of tabs, which therefore never moves under the pointer. */
#tabs { display: contents; }
#results > .row { order: 1; }
#results > .row:not(:has(.block)) { display: none; }
#tabs > .tabitem { order: 2; }
#bar:not(:has(progress)), #to-inputs, .figure.wide::after { display: none; }
@media (max-width: 700px) {
  /* The first thing to see is a result; the form follows. */
  #results { order: -1; }
  #network { order: 3; }
  #to-inputs { display: block; }
  #examples { max-height: 330px; overflow-y: auto; }
  /* Numbers of a table stay whole. */
  .prose td, .prose th {
    padding: 4px 6px !important; font-size: 13px; word-break: keep-all; overflow-wrap: normal;
  }
  /* Wide figures stay readable: half of one fills the screen, and the rest is a swipe away. */
  .figure.wide .image-container > button { overflow-x: auto; justify-content: flex-start; }
  .figure.wide .image-frame { width: 200%; flex: none; }
  .figure.wide .image-frame img { width: 100%; height: auto; max-height: none; }
  .figure.wide::after {
    display: block; position: absolute; top: 6px; left: 8px; font-size: 13px;
    content: "⟷ swipe the picture sideways";
  }
}
"""

SHOW_RESULTS = """
() => {
  if (matchMedia('(max-width: 700px)').matches)
    document.querySelector('#results').scrollIntoView({behavior: 'smooth'});
}
"""
"""On a phone, a run that was started in the form is watched further up."""

SAY_MODE = "() => { window.saidMode = true; }"
"""The visitor says what the photo is."""

FORGET_MODE = """
() => {
  window.saidMode = false;
  window.photoNumber = (window.photoNumber ?? 0) + 1;
}
"""
"""The photo is taken away, or an example replaces it: what was said or asked of it is of no use."""

ASK_GUESS = "(session, photo, guess) => [session, photo, String(window.photoNumber ?? 0)]"
"""Which photo a guess is asked for goes with the question, and comes back with the guess."""

TAKE_GUESS = """
(guess, mode) => {
  const [number, ...words] = (guess ?? '').split(' ');
  const wanted = words.length && number === String(window.photoNumber ?? 0) && !window.saidMode;
  return wanted ? words.join(' ') : mode;
}
"""
"""What the photo is: as guessed, if that is of this photo and the visitor has not said it."""

OPEN_TAB = """
const open = (event) => {
  const box = event.target.closest('[data-tab]');
  if (!box || (event.type === 'keydown' && event.key !== 'Enter' && event.key !== ' ')) return;
  event.preventDefault();
  trigger('pick', {tab: box.dataset.tab});
};
element.addEventListener('click', open);
element.addEventListener('keydown', open);
"""
"""Boxes of the network's drawing open their tabs, by mouse and by keyboard."""

BLOCK = MASAConfig().lr_block
"""LR pixels that an arrow key moves in figures of blocks."""

MOVE_BY_KEYS = f"""
() => {{
  const moves = {{
    ArrowUp: ['row', -1], ArrowDown: ['row', 1],
    ArrowLeft: ['column', -1], ArrowRight: ['column', 1]
  }};
  document.addEventListener('keydown', (event) => {{
    const figure = event.target.closest?.('.picks');
    if (!figure || !(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    const [name, sign] = moves[event.key];
    const slider = document.querySelector(`#${{name}} input[type=range]`);
    if (!slider) return;
    event.preventDefault();
    const step = figure.classList.contains('in-blocks') ? {BLOCK} : 1;
    slider.value = Number(slider.value) + sign * step;
    slider.dispatchEvent(new Event('input', {{bubbles: true}}));
  }});
}}
"""
"""Arrow keys on a figure that can be clicked move the sliders above it, a block or a pixel."""

TELL_COMPARED = """
() => requestAnimationFrame(() => {
  const chosen = (name) => document.querySelector(`#${name} input`)?.value;
  const tell = (slider, left, right) => {
    const pictures = document.querySelectorAll(`#${slider} img`);
    const words = [['Left', left], ['Right', right]];
    pictures.forEach((picture, number) => {
      const [side, names] = words[number] ?? [];
      if (side) picture.alt = `${side}: ${names.map(chosen).join(', ')}.`;
    });
  };
  tell('compare', ['compare-left'], ['compare-right']);
  tell('lab-slider', ['lab-compared'], ['lab-network', 'lab-value']);
})
"""
"""The two pictures of each slider are told apart in words, by the names chosen for them.

Gradio gives both an empty alternative text, with which a screen reader passes over the result.
"""

MIME_TYPES = {suffix: kind.mime_types[0] for kind in FORMATS for suffix in kind.suffixes}

TAKE_PICTURES = f"""
() => {{
  const types = {json.dumps(MIME_TYPES)};
  const field = (event) => event.target.closest?.('#photo, #refs');
  const typeOf = (file) =>
    file.type || types[file.name.slice(file.name.lastIndexOf('.')).toLowerCase()] || '';
  const typed = (files) => {{
    const all = new DataTransfer();
    for (const file of files) {{
      const type = typeOf(file);
      all.items.add(type === file.type ? file : new File([file], file.name, {{type}}));
    }}
    return all;
  }};
  const listen = (name, listener) => document.addEventListener(name, (event) => {{
    if (field(event)) listener(event);
  }}, true);
  listen('click', (event) => {{
    for (const input of field(event).querySelectorAll('input[type=file]'))
      input.accept = {json.dumps(", ".join(ACCEPTED))};
  }});
  listen('change', (event) => {{
    if (event.target.type === 'file') event.target.files = typed(event.target.files).files;
  }});
  listen('drop', (event) => {{
    const files = [...(event.dataTransfer?.files ?? [])];
    if (!files.some((file) => typeOf(file) !== file.type)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const dataTransfer = typed(files);
    event.target.dispatchEvent(new DragEvent(
      'drop', {{bubbles: true, cancelable: true, dataTransfer}}
    ));
  }});
  listen('error', (event) => event.target.toggleAttribute('data-unshown', true));
  listen('load', (event) => event.target.toggleAttribute('data-unshown', false));
}}
"""
"""The fields for photos offer and take every format that the server reads.

Gradio takes what the browser calls an image; many browsers have no name for HEIC, so the file's
suffix gives it. A photo that the browser cannot show is marked, for a sentence in its place.
"""

FONT: list[gr.themes.Font | str] = [
    gr.themes.LocalFont("IBM Plex Sans", (400, 700)),
    "system-ui",
    "sans-serif",
]
"""Comes with Gradio, so nothing is fetched."""

THEME = gr.themes.Soft(font=FONT).set(
    background_fill_primary="*neutral_50",  # the theme's own, which ``set`` forgets
    # Darker than the theme's own, for enough contrast on its light ground.
    body_text_color_subdued="*neutral_500",
    block_label_text_color="*primary_700",
    block_title_text_color="*primary_700",
    button_primary_background_fill="*primary_600",
    button_primary_background_fill_hover="*primary_700",
    checkbox_label_background_fill_selected="*primary_600",
)
