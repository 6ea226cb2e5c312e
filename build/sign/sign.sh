#!/usr/bin/env bash
# Signs files for Windows by osslsigncode: exe, com and msi.
#
#   build/sign/sign.sh FILE…
#
# What to sign with is named in the environment, one of three:
#   SIGN_PFX                   a PKCS #12 file
#   SIGN_CERT and SIGN_KEY     PEM files: the certificate with its chain, and the key
#   SIGN_PKCS11_MODULE, SIGN_PKCS11_KEY and SIGN_CERT (or SIGN_PKCS11_CERT)
#                              a token: its library, the RFC 7512 URI of the key, and the certificate as a
#                              PEM file, or its URI in the token; needs OpenSSL's engine pkcs11
#   SIGN_PKCS11_ENGINE         with a token: the engine's own file, where OpenSSL does not find it
# and:
#   SIGN_PASS_FILE             a file with the passphrase or PIN in its first line
#   SIGN_TIMESTAMP_URL         an RFC 3161 server; without one the signature ends with the certificate
#   SIGN_CA_FILE               PEM, the roots that the result is verified against. Default: the system's, which are
#                              those of web servers: the root of a publisher's certificate is often not among
#                              them, and what is signed well is refused until it is named here
#   SIGN_TSA_CA_FILE           PEM, the same for the time stamp (default: those of SIGN_CA_FILE)
#
# A file is replaced only when its signature verifies. No passphrase is an argument of a program.
set -euo pipefail
fail() { echo "sign: $*" >&2; exit 1; }
[ $# -gt 0 ] || fail "usage: build/sign/sign.sh FILE…"
command -v osslsigncode >/dev/null || fail "osslsigncode is missing: run build/setup.sh test"

with=()
if [ -n "${SIGN_PKCS11_MODULE:-}" ]; then
  [ -n "${SIGN_PKCS11_KEY:-}" ] || fail "SIGN_PKCS11_KEY is missing"
  with=(-pkcs11module "$SIGN_PKCS11_MODULE" -key "$SIGN_PKCS11_KEY")
  if [ -n "${SIGN_PKCS11_ENGINE:-}" ]; then with+=(-pkcs11engine "$SIGN_PKCS11_ENGINE"); fi
  if [ -n "${SIGN_CERT:-}" ]; then with+=(-certs "$SIGN_CERT")
  elif [ -n "${SIGN_PKCS11_CERT:-}" ]; then with+=(-pkcs11cert "$SIGN_PKCS11_CERT")
  else fail "SIGN_CERT or SIGN_PKCS11_CERT is missing"; fi
elif [ -n "${SIGN_PFX:-}" ]; then
  with=(-pkcs12 "$SIGN_PFX")
elif [ -n "${SIGN_CERT:-}" ] && [ -n "${SIGN_KEY:-}" ]; then
  with=(-certs "$SIGN_CERT" -key "$SIGN_KEY")
else
  fail "name what to sign with: SIGN_PFX, or SIGN_CERT and SIGN_KEY, or SIGN_PKCS11_MODULE (see the head of build/sign/sign.sh)"
fi
[ -z "${SIGN_PASS_FILE:-}" ] || with+=(-readpass "$SIGN_PASS_FILE")
[ -z "${SIGN_TIMESTAMP_URL:-}" ] || with+=(-ts "$SIGN_TIMESTAMP_URL")
roots=${SIGN_CA_FILE:-/etc/ssl/certs/ca-certificates.crt}

for file in "$@"; do
  signed=$(mktemp "$file.XXXXXX")
  rm -f "$signed" # osslsigncode writes to no file that is there
  trap 'rm -f "$signed"' EXIT
  osslsigncode sign "${with[@]}" -h sha256 -n "Encounter Launcher" -in "$file" -out "$signed" >"$signed.said" 2>&1 ||
    { cat "$signed.said" >&2; rm -f "$signed.said"; fail "$(basename "$file") could not be signed"; }
  osslsigncode verify -CAfile "$roots" ${SIGN_TIMESTAMP_URL:+-TSA-CAfile "${SIGN_TSA_CA_FILE:-$roots}"} -in "$signed" >"$signed.said" 2>&1 ||
    { cat "$signed.said" >&2; rm -f "$signed.said"; fail "the signature of $(basename "$file") does not verify against $roots (SIGN_CA_FILE names other roots)"; }
  rm -f "$signed.said"
  chmod --reference="$file" "$signed"
  mv "$signed" "$file"
  echo "signed: $file"
done
