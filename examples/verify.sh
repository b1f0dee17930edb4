#!/bin/sh
# A bundle with what every Linux has: the signature with openssl (3.0 or later), every file's SHA-256, and none too many.
#
#   sh verify.sh BUNDLE seamline.pub
set -eu
[ $# = 2 ] || { echo "Expected a bundle's folder and a public key: sh verify.sh BUNDLE seamline.pub" >&2; exit 2; }
bundle=$1 key=$2

openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in "$bundle/manifest.json" -sigfile "$bundle/manifest.sig" >/dev/null ||
  { echo "$bundle: not signed with this key" >&2; exit 1; }

# The manifest is genuine, so its lines are as Seamline writes them: a file's name, then its size and SHA-256.
named=$(awk -F'"' '/": \{$/ { name = $2 } /"sha256": "/ { print $4 "  " name }' "$bundle/manifest.json")
(cd "$bundle" && echo "$named" | sha256sum --check --strict --quiet) || { echo "$bundle: altered" >&2; exit 1; }

ls -A "$bundle" | while IFS= read -r file; do
  case $file in manifest.json | manifest.sig) continue ;; esac
  echo "$named" | cut -c67- | grep -qxF -- "$file" || { echo "$bundle: $file is not in the manifest" >&2; exit 1; }
done || exit 1
echo "$bundle: signed, whole, $(echo "$named" | wc -l) files"
