# The commands of docs/enterprise.md, section "## Linux", by the stage that stands
# behind "sh run" at their fences. To be sourced; wants $docs, the document.

# stages prints every stage that the section names, once.
stages() { linux_section | sed -n 's/^```sh run \([a-z-]*\)$/\1/p' | sort -u; }

linux_section() { awk '/^```/ { fenced = !fenced } !fenced && /^## / { inside = ($0 == "## Linux") } inside' "$docs"; }

# block STAGE [NUMBER] prints the commands of a stage: all, or its NUMBERth block.
block() {
  linux_section | awk -v stage="$1" -v number="${2:-0}" '
    /^```/ { if (inside) { inside = 0 } else if ($0 == "```sh run " stage) { n++; inside = (number == 0 || n == number) } ; next }
    inside'
}
