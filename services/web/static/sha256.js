"use strict";
// SHA-256 (FIPS 180-4) for a page without TLS at a network's address, where browsers offer no crypto.subtle.

const sha256Plain = (() => {
  const primes = [];
  for (let candidate = 2; primes.length < 64; candidate++)
    if (primes.every((prime) => candidate % prime)) primes.push(candidate);
  const fraction = (root) => (root - Math.floor(root)) * 2 ** 32 | 0;
  const ROUND = Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime)));
  const START = primes.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
  const right = (word, bits) => (word >>> bits) | (word << (32 - bits));

  // bytes: a Uint8Array. The digest in hexadecimal.
  return (bytes) => {
    const padded = new Uint8Array((bytes.length + 72) & ~63);
    padded.set(bytes);
    padded[bytes.length] = 0x80;
    const view = new DataView(padded.buffer), state = Int32Array.from(START), words = new Int32Array(64);
    view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
    view.setUint32(padded.length - 4, bytes.length << 3);
    for (let block = 0; block < padded.length; block += 64) {
      for (let i = 0; i < 16; i++) words[i] = view.getInt32(block + 4 * i);
      for (let i = 16; i < 64; i++) {
        const before = words[i - 15], after = words[i - 2];
        const small = right(before, 7) ^ right(before, 18) ^ (before >>> 3), large = right(after, 17) ^ right(after, 19) ^ (after >>> 10);
        words[i] = words[i - 16] + small + words[i - 7] + large | 0;
      }
      let [a, b, c, d, e, f, g, h] = state;
      for (let i = 0; i < 64; i++) {
        const first = h + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) + ((e & f) ^ (~e & g)) + ROUND[i] + words[i] | 0;
        const second = (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & b) ^ (a & c) ^ (b & c)) | 0;
        h = g; g = f; f = e; e = d + first | 0; d = c; c = b; b = a; a = first + second | 0;
      }
      for (const [i, word] of [a, b, c, d, e, f, g, h].entries()) state[i] += word;
    }
    return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  };
})();
