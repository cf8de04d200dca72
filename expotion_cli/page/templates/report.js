'use strict';
const DATA = JSON.parse(document.getElementById('data').textContent);
const SVG = 'http://www.w3.org/2000/svg';
const list = document.getElementById('clips');
const byId = id => document.getElementById(id);

function make(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return parent.appendChild(element);
}

const bytes = text => Uint8Array.from(atob(text || ''), c => c.charCodeAt(0));
const clock = seconds => {
  const tenths = Math.round(Math.max(0, seconds) * 10), minutes = Math.floor(tenths / 600);
  return `${minutes}:${String(Math.floor(tenths / 10) % 60).padStart(2, '0')}.${tenths % 10}`;
};

function drawWave(place, name, peaks) {
  const svg = make(place, 'svg', { class: name, viewBox: `0 0 ${peaks.length} 512`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  let path = '';
  peaks.forEach((peak, i) => { const half = Math.max(3, peak); path += `M${i} ${256 - half}h.72v${2 * half}h-.72z`; });
  make(svg, 'path', { d: path });
}

class Clip {
  constructor(element) {
    this.element = element;
    this.data = DATA[element.id];
    this.video = element.querySelector('video');
    this.axis = element.querySelector('.axis');
    this.take = null;
    const hits = element.querySelector('details.hits');
    if (hits) hits.addEventListener('toggle', () => this.listHits(hits), { once: true });
    if (this.video) this.wire();
  }

  get duration() { return Number.isFinite(this.video.duration) ? this.video.duration : this.data.duration; }
  get time() { return this.video.currentTime; }

  wire() {
    const { video, axis, element } = this, screen = element.querySelector('.screen');
    if (screen.dataset.ratio) screen.style.aspectRatio = Math.max(0.75, Math.min(2.4, screen.dataset.ratio));
    this.button = element.querySelector('.play');
    this.name = video.getAttribute('aria-label');
    this.button.addEventListener('click', () => this.toggle());
    video.addEventListener('click', () => this.toggle());
    video.addEventListener('dblclick', () => this.full());
    element.querySelector('.full').addEventListener('click', () => this.full());
    for (const event of ['play', 'pause', 'ended']) video.addEventListener(event, () => this.changed());
    for (const event of ['timeupdate', 'seeked', 'loadedmetadata']) video.addEventListener(event, () => this.show());
    for (const event of ['seeked', 'waiting', 'playing']) video.addEventListener(event, () => this.follow());
    video.addEventListener('error', () => this.broken());
    axis.addEventListener('keydown', event => this.key(event));
    axis.addEventListener('pointerdown', event => {
      if (event.button !== 0) return;
      axis.setPointerCapture(event.pointerId);
      this.point(event);
    });
    axis.addEventListener('pointermove', event => { if (axis.hasPointerCapture(event.pointerId)) this.point(event); });
    for (const radio of element.querySelectorAll('.takes input')) radio.addEventListener('change', () => this.audition(radio));
    const copy = element.querySelector('.copy');
    if (copy) copy.addEventListener('click', () => copyText(copy, element.querySelector('.command code').textContent));
  }

  /* Playing */
  toggle() { if (this.video.paused) this.video.play().catch(() => {}); else this.video.pause(); }
  full() { if (document.fullscreenElement) document.exitFullscreen(); else this.video.requestFullscreen().catch(() => {}); }

  seek(seconds) {
    const video = this.video;
    if (video.preload === 'none') video.preload = 'auto';
    video.currentTime = Math.max(0, Math.min(this.duration, seconds));
    this.show();
  }

  changed() {
    const playing = !this.video.paused && !this.video.ended;
    this.element.classList.toggle('playing', playing);
    this.button.setAttribute('aria-label', `${playing ? 'Pause' : 'Play'} ${this.name}`);
    if (playing) {
      for (const other of clips) if (other !== this && other.video && !other.video.paused) other.video.pause();
      const step = () => { this.show(); if (!this.video.paused && !this.video.ended) requestAnimationFrame(step); };
      requestAnimationFrame(step);
    }
    this.follow();
    this.show();
  }

  show() {
    if (this.time > 0) this.element.classList.add('touched');
    const time = this.time, share = this.duration ? Math.min(1, time / this.duration) : 0;
    this.axis.style.setProperty('--at', `${(share * 100).toFixed(3)}%`);
    this.axis.setAttribute('aria-valuenow', time.toFixed(2));
    this.axis.setAttribute('aria-valuetext', `${time.toFixed(1)} of ${this.duration.toFixed(1)} seconds`);
    this.element.querySelector('.now').textContent = clock(time);
  }

  broken() {
    if (this.element.querySelector('.broken')) return;
    const line = document.createElement('p');
    line.className = 'broken';
    line.setAttribute('role', 'status');
    line.textContent = 'This browser can’t play the video: it is not there any more, or in a format that the browser lacks. Open it in another player.';
    this.axis.after(line);
  }

  /* Takes: their sound runs beside the muted video */
  audition(radio) {
    const command = this.element.querySelector('.command');
    command.hidden = !radio.dataset.command;
    command.querySelector('code').textContent = radio.dataset.command || '';
    if (this.take) this.take.pause();
    this.take = radio.value ? new Audio(radio.value) : null;
    if (this.take) this.take.volume = volume.value;
    this.video.muted = this.take !== null;
    this.follow();
  }

  follow() {
    const { take, video } = this;
    if (!take) return;
    if (Math.abs(take.currentTime - video.currentTime) > 0.08) take.currentTime = video.currentTime;
    if (video.paused || video.ended || video.seeking) take.pause(); else take.play().catch(() => {});
  }

  /* The axis */
  point(event) {
    const box = this.axis.getBoundingClientRect();
    this.seek((event.clientX - box.left) / box.width * this.duration);
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const small = event.shiftKey ? 0.04 : 1, times = this.data.hits.map(hit => hit[0]);
    const to = {
      ArrowLeft: () => this.seek(this.time - small), ArrowRight: () => this.seek(this.time + small),
      ArrowDown: () => this.seek(this.time - 5), ArrowUp: () => this.seek(this.time + 5),
      PageDown: () => this.seek(this.time - 10), PageUp: () => this.seek(this.time + 10),
      Home: () => this.seek(0), End: () => this.seek(this.duration),
      ' ': () => this.toggle(), Enter: () => this.toggle(),
      n: () => this.seek(times.find(time => time > this.time + 0.02) ?? this.time),
      p: () => this.seek(times.findLast(time => time < this.time - 0.02) ?? this.time),
      j: () => neighbour(this, 1), k: () => neighbour(this, -1),
    }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (to) { event.preventDefault(); to(); }
  }

  draw() {
    if (this.drawn || !this.axis) return;
    this.drawn = true;
    const place = this.axis.querySelector('.drawn'), { peaks, motion, hits, cuts, duration } = this.data;
    const wave = bytes(peaks), moves = bytes(motion);
    if (wave.length) for (const name of ['wave', 'wave done']) drawWave(place, name, wave);
    for (const mini of this.element.querySelectorAll('.mini')) drawWave(mini, 'wave', bytes(this.data.takes[mini.dataset.file]));
    if (moves.length) {
      const svg = make(place, 'svg', { class: 'moves', viewBox: `0 0 ${moves.length} 255`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
      make(svg, 'path', { d: `M0 255L${Array.from(moves, (value, i) => `${i + 0.5} ${(255 - Math.sqrt(255 * value)).toFixed(1)}`).join('L')}L${moves.length} 255z` });
    }
    if (!duration) return;
    const marks = make(place, 'svg', { class: 'marks', 'aria-hidden': 'true' }), at = time => `${(time / duration * 100).toFixed(3)}%`;
    const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800], step = steps.find(each => duration / each <= 10) || 3600;
    for (let time = step; time < duration - step / 3; time += step) {
      make(marks, 'line', { class: 'tick', x1: at(time), x2: at(time), y1: '88%', y2: '92%' });
      make(marks, 'text', { x: at(time), y: '98.5%', 'text-anchor': 'middle' }, step < 1 ? time.toFixed(1) : clock(time).slice(0, -2));
    }
    for (const time of cuts) make(marks, 'line', { class: 'cut', x1: at(time), x2: at(time), y1: 0, y2: '87%' });
    for (const [time, weight, cause, answered, sounds] of hits) {
      if (answered !== null) make(marks, 'line', { class: 'answer', x1: at(answered), x2: at(answered), y1: 16, y2: '62%' });
      const pin = make(marks, 'svg', { x: at(time), y: 11, width: 1, height: 1 }), size = 4 + 3 * Math.min(1, weight ?? 0.5);
      const head = make(pin, 'path', { class: answered === null ? '' : 'met', d: `M0 ${-size}L${size} 0 0 ${size} ${-size} 0z` });
      make(head, 'title', {}, `${cause || 'hit point'} at ${time.toFixed(2)} s: ${answered === null ? 'not answered' : `answered at ${answered.toFixed(2)} s${sounds ? ` by ${sounds}` : ''}`}`);
    }
  }

  listHits(place) {
    const table = document.createElement('table'), row = (cells, tag) => {
      const line = table.insertRow();
      for (const cell of cells) { const made = document.createElement(tag); made.append(cell); line.append(made); }
    };
    row(['time', 'cause', 'weight', 'answered', 'by'], 'th');
    for (const [time, weight, cause, answered, sounds] of this.data.hits) {
      let when = `${time.toFixed(2)} s`;
      if (this.video) {
        const button = document.createElement('button');
        button.type = 'button';
        button.textContent = when;
        button.addEventListener('click', () => this.seek(time));
        when = button;
      }
      row([when, cause, weight === null ? '' : weight.toFixed(2), answered === null ? 'no' : `${answered.toFixed(2)} s`, sounds], 'td');
    }
    place.append(table);
  }
}

async function copyText(button, text) {
  try { await navigator.clipboard.writeText(text); } catch {
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
    button.focus();
  }
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
}

function neighbour(clip, way) {
  const shown = [...list.querySelectorAll('.clip:not([hidden]) .axis')], next = shown[shown.indexOf(clip.axis) + way];
  if (next) { next.focus(); next.closest('.clip').scrollIntoView({ block: 'nearest' }); }
}

const elements = [...document.querySelectorAll('.clip')], clips = elements.map(element => new Clip(element));
const volume = byId('volume') || { value: 1 };
const observer = new IntersectionObserver(entries => {
  for (const entry of entries) if (entry.isIntersecting) { clips[elements.indexOf(entry.target)].draw(); observer.unobserve(entry.target); }
}, { rootMargin: '500px' });
elements.forEach(element => observer.observe(element));

/* Filter and sort */
function filter() {
  const words = byId('find').value.toLowerCase().split(/\s+/).filter(Boolean), recipe = byId('recipe').value, status = byId('status').value;
  const fits = ({ dataset }) => words.every(word => dataset.search.includes(word)) && (!recipe || dataset.recipe === recipe) && (!status || dataset.status === status);
  for (const each of document.querySelectorAll('.clip, .attention li')) {
    each.hidden = !fits(each);
    const video = each.hidden && each.querySelector('video');
    if (video && !video.paused) video.pause();
  }
  const shown = elements.filter(element => !element.hidden).length;
  byId('count').value = shown === elements.length ? `${shown} shown` : `${shown} of ${elements.length} shown`;
  byId('none').hidden = shown > 0 || document.querySelector('.attention li:not([hidden])') !== null;
}

function sort() {
  const [key, way] = byId('sort').value.split('-'), sign = way === 'down' ? -1 : 1;
  const value = element => element.dataset[key] === '' ? null : Number(element.dataset[key]);
  const order = key === 'name' ? elements : elements.slice().sort((a, b) => {
    const [one, two] = [value(a), value(b)];
    return one === null || two === null ? (one === null) - (two === null) : sign * (one - two);
  });
  byId('none').before(...order);
}

if (byId('find')) {
  byId('find').form.addEventListener('submit', event => event.preventDefault());
  byId('find').addEventListener('input', filter);
  for (const id of ['recipe', 'status']) byId(id).addEventListener('change', filter);
  byId('sort').addEventListener('change', sort);
  byId('reset').addEventListener('click', () => { byId('find').form.reset(); filter(); sort(); byId('find').focus(); });
  volume.addEventListener('input', () => {
    for (const clip of clips) {
      if (clip.video) clip.video.volume = volume.value;
      if (clip.take) clip.take.volume = volume.value;
    }
  });
  filter();  // browsers bring back what a form held
  sort();
}
