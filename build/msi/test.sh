#!/usr/bin/env bash
# Tries the MSI in a Windows of its own; `make test-msi` builds what it needs.
#
#   build/msi/test.sh OLD-FOLDER OLD-VERSION NEW-FOLDER NEW-VERSION SANDBOX
#
# Each folder holds the programs of one version, release and demo, and their MSIs.
set -euo pipefail
cd "$(dirname "$0")/../.."
MSI_OLD=$(realpath "$1") MSI_OLD_VERSION=$2 MSI_NEW=$(realpath "$3") MSI_NEW_VERSION=$4 MSI_SANDBOX=$(realpath "$5")
export MSI_OLD MSI_OLD_VERSION MSI_NEW MSI_NEW_VERSION MSI_SANDBOX
build/wine/with.sh --fresh node build/msi/test.mjs
echo "The commands of docs/enterprise.md, section Windows"
build/wine/with.sh --fresh node build/msi/docs.mjs
