// Writes a cabinet file as small as MSZIP can make it: wixl's own is 4 % larger, because each
// of its blocks is compressed as if nothing had come before it.
//
//   node build/msi/cab.mjs OUT.cab NAME=FILE…
//
// The times in it are SOURCE_DATE_EPOCH, in UTC. [MS-CAB] is the format, [MS-MCI] MSZIP.
import { readFileSync, writeFileSync } from 'node:fs';
import { deflateRawSync } from 'node:zlib';

const [out, ...pairs] = process.argv.slice(2);
const at = new Date(Number(process.env.SOURCE_DATE_EPOCH) * 1000);
if (!out || pairs.length === 0 || Number.isNaN(at.getTime())) throw new Error('usage: SOURCE_DATE_EPOCH=… node build/msi/cab.mjs OUT.cab NAME=FILE…');
const files = pairs.map((pair) => {
  const [name, file] = pair.split('=');
  return { name: Buffer.from(`${name}\0`, 'latin1'), bytes: readFileSync(file) };
});

/** The checksum of a block ([MS-CAB] 3.1): words are combined by exclusive or; the bytes left over are the other way round. */
function checksum(bytes, seed) {
  let sum = seed;
  const whole = bytes.length & ~3;
  for (let i = 0; i < whole; i += 4) sum ^= bytes.readInt32LE(i);
  let rest = 0;
  for (let i = whole; i < bytes.length; i++) rest = (rest << 8) | bytes[i];
  return (sum ^ rest) >>> 0;
}

const blockSize = 32768;
const content = Buffer.concat(files.map((f) => f.bytes));
const blocks = [];
for (let i = 0; i < content.length; i += blockSize) {
  const block = content.subarray(i, i + blockSize);
  // What came before is the dictionary ([MS-MCI] 2.2: the history buffer is kept over the blocks of a folder).
  const dictionary = i > 0 ? content.subarray(i - blockSize, i) : undefined;
  const packed = Buffer.concat([Buffer.from('CK'), deflateRawSync(block, { level: 9, memLevel: 9, dictionary })]);
  const head = Buffer.alloc(8); // CFDATA
  head.writeUInt16LE(packed.length, 4);
  head.writeUInt16LE(block.length, 6);
  head.writeUInt32LE(checksum(head.subarray(4), checksum(packed, 0)), 0);
  blocks.push(head, packed);
}
if (blocks.length / 2 > 0xffff) throw new Error('too large for one folder of a cabinet');

const date = ((at.getUTCFullYear() - 1980) << 9) | ((at.getUTCMonth() + 1) << 5) | at.getUTCDate();
const time = (at.getUTCHours() << 11) | (at.getUTCMinutes() << 5) | (at.getUTCSeconds() >> 1);
let offset = 0;
const entries = files.map(({ name, bytes }) => {
  const entry = Buffer.alloc(16); // CFFILE
  entry.writeUInt32LE(bytes.length, 0);
  entry.writeUInt32LE(offset, 4);
  entry.writeUInt16LE(date, 10);
  entry.writeUInt16LE(time, 12);
  entry.writeUInt16LE(0x20, 14); // archive
  offset += bytes.length;
  return Buffer.concat([entry, name]);
});

const header = Buffer.alloc(36); // CFHEADER
const folder = Buffer.alloc(8); // CFFOLDER
const list = Buffer.concat(entries);
const data = Buffer.concat(blocks);
header.write('MSCF', 0, 'latin1');
header.writeUInt32LE(header.length + folder.length + list.length + data.length, 8);
header.writeUInt32LE(header.length + folder.length, 16);
header.writeUInt8(3, 24);
header.writeUInt8(1, 25);
header.writeUInt16LE(1, 26);
header.writeUInt16LE(files.length, 28);
folder.writeUInt32LE(header.length + folder.length + list.length, 0);
folder.writeUInt16LE(blocks.length / 2, 4);
folder.writeUInt16LE(1, 6); // MSZIP
writeFileSync(out, Buffer.concat([header, folder, list, data]));
