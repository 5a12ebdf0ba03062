// Make places and pictures play from where they are clicked. The players work without this script.
const play = (section, time) => {
  for (const player of section.querySelectorAll('audio')) {
    const start = Number(player.dataset.start), end = Number(player.dataset.end);
    if (time < start || time > end) continue;
    player.currentTime = Math.max(0, time - start);
    player.play();
    return;
  }
};
for (const place of document.querySelectorAll('[data-time]')) {
  const section = place.closest('section'), time = Number(place.dataset.time);
  const inside = [...section.querySelectorAll('audio')].some(
    player => time >= Number(player.dataset.start) && time <= Number(player.dataset.end));
  if (!inside) continue;
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = place.textContent;
  button.setAttribute('aria-label', 'Play ' + place.textContent);
  button.addEventListener('click', () => play(section, Math.max(0, time - 1)));
  place.replaceWith(button);
}
for (const picture of document.querySelectorAll('.picture')) {
  picture.addEventListener('click', event => {
    const box = picture.getBoundingClientRect();
    play(picture.closest('section'), (event.clientX - box.left) / box.width * Number(picture.dataset.duration));
  });
}
