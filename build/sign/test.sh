#!/usr/bin/env bash
# Signs what is in build/bin with certificates of its own: from a PKCS #12 file by `make sign`, from PEM
# files, and from a PKCS #11 token, with and without a time stamp. A changed byte is found each time.
#
#   build/sign/test.sh VERSION
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$1
fail() { echo "sign test: $*" >&2; exit 1; }
for tool in openssl osslsigncode softhsm2-util node msiextract; do command -v "$tool" >/dev/null || fail "$tool is missing: run build/setup.sh test"; done
work=$(mktemp -d)
stamper=
finish() { [ -z "$stamper" ] || kill "$stamper" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
ok() { echo "  ✓ $*"; }

# --- certificates: a root, a publisher, a time stamp authority --------------------------
pass="correct horse $RANDOM$RANDOM"
printf '%s\n' "$pass" >"$work/pass"
chmod 0600 "$work/pass"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/root.key" -out "$work/root.pem" -days 30 -subj "/CN=Root of the test" 2>/dev/null
leaf() { # NAME EXTENSION…
  openssl req -newkey rsa:2048 -nodes -keyout "$work/$1.key" -out "$work/$1.csr" -subj "/CN=$1 of the test" 2>/dev/null
  openssl x509 -req -in "$work/$1.csr" -CA "$work/root.pem" -CAkey "$work/root.key" -CAcreateserial -days 20 -out "$work/$1.pem" -extfile <(printf '%s\n' "basicConstraints=CA:FALSE" "${@:2}") 2>/dev/null
}
leaf Publisher "keyUsage=digitalSignature" "extendedKeyUsage=codeSigning"
leaf Stamper "keyUsage=digitalSignature" "extendedKeyUsage=critical,timeStamping"
openssl pkcs12 -export -inkey "$work/Publisher.key" -in "$work/Publisher.pem" -certfile "$work/root.pem" -out "$work/publisher.pfx" -passout "file:$work/pass"
openssl pkcs8 -topk8 -in "$work/Publisher.key" -out "$work/publisher.key" -passout "file:$work/pass"
cat "$work/Publisher.pem" "$work/root.pem" >"$work/publisher.pem"
export SIGN_CA_FILE="$work/root.pem" SIGN_PASS_FILE="$work/pass"

# What osslsigncode is called with, for a look at what another user of this computer could have seen.
real=$(command -v osslsigncode)
mkdir "$work/bin"
printf '#!/bin/sh\nprintf "%%s\\n" "$*" >>"%s"\nexec "%s" "$@"\n' "$work/called" "$real" >"$work/bin/osslsigncode"
chmod 0755 "$work/bin/osslsigncode"
export PATH="$work/bin:$PATH"

verifies() { "$real" verify -CAfile "$work/root.pem" -TSA-CAfile "$work/root.pem" -in "$1" >"$work/said" 2>&1; }
holds() { # FILE: it verifies, and no more with one byte changed
  verifies "$1" || { cat "$work/said" >&2; fail "$1 does not verify"; }
  cp "$1" "$work/changed"
  local at=$(($(stat -c %s "$1") / 2)) byte
  byte=$(dd if="$1" bs=1 skip="$at" count=1 2>/dev/null | od -An -tu1)
  printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$work/changed" bs=1 seek="$at" conv=notrunc 2>/dev/null
  if verifies "$work/changed"; then fail "a changed byte of $(basename "$1") is not found"; fi
}

# --- make sign ----------------------------------------------------------------------------
# As docs/enterprise.md has it, with the files and the version of the test.
command=$(sed -n '/^```sh run sign$/,/^```$/{/^```/d;p}' docs/enterprise.md)
[ "$(wc -l <<<"$command")" = 1 ] && [ -n "$command" ] || fail "docs/enterprise.md has no command that signs"
command=${command/publisher.pfx/\"$work/publisher.pfx\"}
command=${command/passphrase.txt/\"$work/pass\"}
(unset SIGN_PASS_FILE; eval "$command --no-print-directory VERSION=$version") >"$work/make" 2>&1 || { cat "$work/make" >&2; fail "make sign failed"; }
signed=build/out/signed
for file in "$signed"/encounter-launcher.{exe,com} "$signed/encounter-launcher_${version}_x64.msi"; do holds "$file"; done
msiextract -C "$work/out" "$signed/encounter-launcher_${version}_x64.msi" >/dev/null
for ending in exe com; do cmp "$signed/encounter-launcher.$ending" "$work/out/Encounter Launcher/encounter-launcher.$ending"; done
ok "make sign signs exe, com and the MSI that holds both; a changed byte is found in each"

# --- what cannot be ---------------------------------------------------------------------------
cp build/bin/encounter-launcher.com "$work/plain.com"
refused() { # WHY, then the environment
  local why=$1
  shift
  if env "$@" build/sign/sign.sh "$work/plain.com" >"$work/said" 2>&1; then fail "$why: it was signed"; fi
  cmp -s build/bin/encounter-launcher.com "$work/plain.com" || fail "$why: the file was changed"
  [ "$(find "$work" -name 'plain.com*' | wc -l)" = 1 ] || fail "$why: something was left"
}
printf 'wrong\n' >"$work/wrong"
refused "nothing to sign with" -u SIGN_PFX
refused "a wrong passphrase" SIGN_PFX="$work/publisher.pfx" SIGN_PASS_FILE="$work/wrong"
refused "a publisher that the roots do not know" SIGN_PFX="$work/publisher.pfx" SIGN_CA_FILE=/etc/ssl/certs/ca-certificates.crt
grep -q SIGN_CA_FILE "$work/said" || { cat "$work/said" >&2; fail "nobody is told how to name the root"; }
refused "a time stamp server that is not there" SIGN_PFX="$work/publisher.pfx" SIGN_TIMESTAMP_URL=http://127.0.0.1:9/
ok "what cannot be signed and verified is left as it was"

# --- PEM files, and a time stamp -----------------------------------------------------------------
cat >"$work/stamp.conf" <<C
[tsa]
serial = $work/serial
default_policy = 1.2.3.4.1
signer_digest = sha256
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
C
echo 01 >"$work/serial"
cat >"$work/stamper.mjs" <<'J'
// A time stamp authority (RFC 3161 §3.4) that lets openssl answer.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
const dir = process.argv[2];
createServer(async (ask, answer) => {
  const parts = [];
  for await (const part of ask) parts.push(part);
  writeFileSync(`${dir}/query`, Buffer.concat(parts));
  execFileSync('openssl', ['ts', '-reply', '-config', `${dir}/stamp.conf`, '-section', 'tsa', '-queryfile', `${dir}/query`, '-inkey', `${dir}/Stamper.key`, '-signer', `${dir}/Stamper.pem`, '-chain', `${dir}/root.pem`, '-out', `${dir}/reply`], { stdio: 'inherit' });
  answer.setHeader('content-type', 'application/timestamp-reply');
  answer.end(readFileSync(`${dir}/reply`));
}).listen(0, '127.0.0.1', function () { writeFileSync(`${dir}/port`, String(this.address().port)); });
J
node "$work/stamper.mjs" "$work" >"$work/stamper.log" 2>&1 &
stamper=$!
for _ in $(seq 100); do [ -s "$work/port" ] && break; sleep 0.1; done
stamp="http://127.0.0.1:$(cat "$work/port")/"
SIGN_CERT="$work/publisher.pem" SIGN_KEY="$work/publisher.key" SIGN_TIMESTAMP_URL="$stamp" build/sign/sign.sh "$work/plain.com" >"$work/said" 2>&1 || { cat "$work/said" "$work/stamper.log" >&2; fail "signing from PEM files with a time stamp"; }
holds "$work/plain.com"
verifies "$work/plain.com"
grep -qi "timestamp.*: ok\|Timestamp Server Signature verification: ok" "$work/said" || { cat "$work/said" >&2; fail "there is no time stamp"; }
ok "PEM files and a time stamp"

# --- a token -----------------------------------------------------------------------------------
module=$(find /usr/lib -name libsofthsm2.so | head -1)
mkdir "$work/tokens"
echo "directories.tokendir = $work/tokens" >"$work/softhsm.conf"
export SOFTHSM2_CONF="$work/softhsm.conf"
echo 246813579 >"$work/pin"
softhsm2-util --init-token --free --label signing --so-pin 9876 --pin 246813579 >/dev/null
openssl pkcs8 -topk8 -nocrypt -in "$work/Publisher.key" -out "$work/token.key"
softhsm2-util --import "$work/token.key" --token signing --label publisher --id a1 --pin 246813579 >/dev/null
cp build/bin/encounter-launcher.com "$work/token.com"
SIGN_PKCS11_MODULE="$module" SIGN_PKCS11_KEY="pkcs11:token=signing;object=publisher;type=private" SIGN_CERT="$work/publisher.pem" SIGN_PASS_FILE="$work/pin" \
  build/sign/sign.sh "$work/token.com" >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "signing from a token"; }
holds "$work/token.com"
ok "a PKCS #11 token"

if grep -qF -e "$pass" -e 246813579 "$work/called"; then fail "a passphrase is an argument of a program"; fi
grep -q -- "-readpass" "$work/called" || fail "the test does not see the calls"
ok "no passphrase was an argument"
