# Sourced by the run scripts, in the repository's root. `usage`: the script's first comment, and exit code 2.
# `begin FILE`: set up if needed, then keep a log. `step WORDS`: a heading with the minutes so far.
# `keep_log FILE`: from there on stdout and stderr are FILE, appended to, a time stamp a line; DEEPPRUNE_CONSOLE names
# the console's descriptors, to which deepprune/base/console.py writes what a person should see. `say LINE`: to both.

usage() {
  sed -n '2,${/^#/!q; s/^# \{0,1\}//p}' "$0"
  exit 2
}

begin() {
  bash scripts/setup.sh
  python=.venv/bin/python
  keep_log "$1"
  started=$SECONDS
}

step() { say ""; say "== $* [$(((SECONDS - started) / 60)) min]"; }

keep_log() {
  log_file=$1
  if ! mkdir -p "$(dirname "$1")" || ! : >> "$1"; then
    echo "$0: $1 cannot be written: results go beside the code, so run this where you may write" >&2
    exit 2
  fi
  export DEEPPRUNE_LOG=$1
  exec 3>&1 4>&2
  # Other packages' progress bars overwrite their line with \r: the last state is kept. Ctrl-C is for the stages, not
  # for the log.
  exec > >(
    trap '' INT TERM HUP
    while IFS= read -r line || [ -n "$line" ]; do
      printf '%(%F %T)T  %s\n' -1 "${line##*$'\r'}"
    done >> "$log_file" 2> /dev/null
  ) 2>&1
  log_process=$!
  export DEEPPRUNE_CONSOLE=3,4
  trap end_log EXIT
}

say() {
  echo "$*"
  echo "$*" >&3
}

end_log() {
  local code=$?
  trap - EXIT
  if [ $code != 0 ] && [ $code != 130 ]; then
    echo "$0: stopped with exit code $code"
    echo "$0: stopped with exit code $code; every line: $log_file" >&4
  fi
  exec >&3 2>&4
  wait $log_process 2> /dev/null || true
  exit $code
}
