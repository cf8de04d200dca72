for (const players of document.querySelectorAll('.players')) {
  const [one, two] = players.querySelectorAll('audio');
  const other = player => player === one ? two : one;
  for (const player of [one, two]) player.addEventListener('play', () => {
    for (const each of document.querySelectorAll('audio')) if (each !== player) each.pause();
  });
  players.querySelector('button').addEventListener('click', () => {
    const from = two.paused ? one : two, to = other(from), at = from.currentTime;
    from.pause(); to.currentTime = at; to.play();
  });
}
