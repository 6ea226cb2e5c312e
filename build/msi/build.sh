#!/usr/bin/env bash
# Builds the MSI from two programs that are built (and, if they are to be, signed) already.
#
#   build/msi/build.sh VERSION EXE COM OUT.msi [demo]
#   build/msi/build.sh --codes VERSION     prints the upgrade code and the product code of a version
#
# The same inputs give the same bytes. All times in the file are SOURCE_DATE_EPOCH (default: the
# last commit). The product code comes from the version, so a version has one for good; the
# package code comes from the content. ARPHELPLINK in the environment becomes the help link that
# Windows shows for the program.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
fail() { echo "msi: $*" >&2; exit 1; }
if [ "${1:-}" = --codes ] && [ $# -eq 2 ]; then set -- "$2" --codes "" ""; fi
[ $# -ge 4 ] && [ $# -le 5 ] || fail "usage: build/msi/build.sh VERSION EXE COM OUT.msi [demo]"
version=$1 exe=$2 com=$3 out=$4 flavour=${5:-}
for tool in "${GO:-go}" wixl node msibuild msiinfo convert perl; do command -v "$tool" >/dev/null || fail "$tool is missing: run build/setup.sh test"; done

# Windows Installer compares three numbers and no more.
[[ $version =~ ^(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,4})$ ]] || fail "a version of Windows Installer is three numbers, as 1.2.3; this is $version"
[ "${BASH_REMATCH[1]}" -le 255 ] && [ "${BASH_REMATCH[2]}" -le 255 ] && [ "${BASH_REMATCH[3]}" -le 65535 ] || fail "a version of Windows Installer is at most 255.255.65535; this is $version"
case $flavour in
  "") name=encounter-launcher title="Encounter Launcher" key=EncounterLauncher ;;
  demo) name=encounter-launcher-demo title="Encounter Launcher Demo" key=EncounterLauncherDemo ;;
  *) fail "there is no flavour $flavour" ;;
esac

SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$here" log -1 --format=%ct)}
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C.UTF-8

# A UUID of version 5 (RFC 9562 §5.5) in a name space of our own.
uuid() {
  local hash
  hash=$( (printf '\x0e\x41\x9c\x52\x6d\x3b\x4f\x0a\x9b\x17\x5c\x28\xd1\x64\xe0\x93'; printf '%s' "$1") | sha1sum)
  printf '%s-%s-5%s-%x%s-%s\n' "${hash:0:8}" "${hash:8:4}" "${hash:13:3}" $((0x${hash:16:1} & 3 | 8)) "${hash:17:3}" "${hash:20:12}" | tr a-f A-F
}

if [ "$exe" = --codes ]; then printf '{%s}\n{%s}\n' "$(uuid "$name upgrade")" "$(uuid "$name product $version x64")"; exit 0; fi

# The version that Windows Installer compares is also that in the files (VS_FIXEDFILEINFO): it replaces older ones only.
for file in "$exe" "$com"; do
  found=$(perl -0777 -ne 'print join(".", (unpack("v4", substr($1, 8)))[1, 0, 3, 2]) if /(\xBD\x04\xEF\xFE.{12})/s' "$file")
  [ "$found" = "$version.0" ] || fail "$(basename "$file") says that its version is ${found:-none}, not $version.0"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$exe" "$work/launcher.exe"
cp "$com" "$work/launcher.com"
icons=()
for size in 16 24 32 48 64 256; do icons+=("$here/../icons/encounter-launcher-$size.png"); done
convert "${icons[@]}" -strip "$work/launcher.ico"
exe=$(realpath "$exe") com=$(realpath "$com")
(cd "$here/../.." && "${GO:-go}" run ./internal/cmd/supply notices --of "$title" --form windows "$exe" "$com") >"$work/notices.txt"
touch -d "@$SOURCE_DATE_EPOCH" "$work"/launcher.* "$work/notices.txt"

define=(-D "Version=$version" -D "Name=$name" -D "Title=$title" -D "Key=$key"
  -D "UpgradeCode=$(uuid "$name upgrade")" -D "ProductCode=$(uuid "$name product $version x64")")
for component in $(sed -n 's/.*<Component Id="\([A-Za-z]*\)".*/\1/p' "$here/encounter-launcher.wxs"); do
  define+=(-D "$component=$(uuid "$name component $component")")
done

# Within a statement nothing is quoted for a shell: a line is one argument.
queries=()
while IFS= read -r line; do
  case $line in ""|"#"*) continue ;; esac
  line=${line//@NAME@/$name}
  queries+=(-q "${line//@FILEVERSION@/$version.0}")
done <"$here/tables.sql"
[ -z "${ARPHELPLINK:-}" ] || queries+=(-q "INSERT INTO Property (Property, Value) VALUES ('ARPHELPLINK', '${ARPHELPLINK//\'/}')")

cp "$here/encounter-launcher.wxs" "$work/launcher.wxs"
began=$(date +%s)
(cd "$work" && wixl -a x64 "${define[@]}" -o launcher.msi launcher.wxs) >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "wixl failed"; }
# It leaves out what it does not know and ends with 0 all the same.
[ ! -s "$work/said" ] || { cat "$work/said" >&2; fail "wixl warns, so something is not in the MSI"; }
node "$here/cab.mjs" "$work/programs.cab" "Exe=$work/launcher.exe" "Com=$work/launcher.com" "Notices=$work/notices.txt"
msibuild "$work/launcher.msi" -a programs.cab "$work/programs.cab" "${queries[@]}" >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "msibuild failed"; }
[ ! -s "$work/said" ] || { cat "$work/said" >&2; fail "msibuild warns"; }

# The two moments of the summary information, and nothing else in the file, are of today.
settle() {
  perl -e '
    my ($file, $began, $epoch) = @ARGV;
    open(my $f, "+<:raw", $file) or die "$file: $!\n";
    local $/; my $bytes = <$f>;
    my $filetime = sub { ($_[0] + 11644473600) * 10000000 };
    my ($first, $last) = ($filetime->($began - 2), $filetime->(time + 2));
    # PID_CREATE_DTM and PID_LASTSAVE_DTM: VT_FILETIME, then the moment ([MS-OLEPS] 2.15).
    my @places;
    while ($bytes =~ /\x40\x00\x00\x00(?=(.{8}))/gs) {
      my $moment = unpack("Q<", $1);
      push @places, pos($bytes) if $moment >= $first && $moment <= $last || $moment == $filetime->($epoch);
    }
    die "msi: " . @places . " moments in the summary information, not 2\n" unless @places == 2;
    substr($bytes, $_, 8) = pack("Q<", $filetime->($epoch)) for @places;
    seek($f, 0, 0); print $f $bytes; close($f) or die "$file: $!\n";
  ' "$1" "$began" "$SOURCE_DATE_EPOCH"
}
coded() { msibuild "$work/launcher.msi" -s "$title" "Encounter Launcher" "x64;1033" "{$1}"; settle "$work/launcher.msi"; }
coded 00000000-0000-0000-0000-000000000000
coded "$(uuid "$name package $(sha256sum <"$work/launcher.msi")")"

mkdir -p "$(dirname "$out")"
mv "$work/launcher.msi" "$out"
chmod 0644 "$out"
size=$(stat -c %s "$out")
echo "$out: $size bytes"
[ "$size" -le $((12 * 1024 * 1024)) ] || fail "larger than 12 MB"
