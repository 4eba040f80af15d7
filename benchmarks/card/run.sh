#!/bin/bash
# bash .device/kit/run.sh [-t SECONDS] [-2] STAGE...   in the project's root, on a machine with a card (or on a CPU)
# STAGE: smoke, tests, bench, memory. -t: seconds for all stages together (580). -2: the second host instead.
# Results go to $OUT as they come, without it to .device/out: kit.log (all output), smoke.json, smoke.png, tests.json,
# tests.xml, gpu.json, bench.json, memory.json.
set -u
START=$SECONDS
KIT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$KIT/../.." && pwd)
TOTAL=580 ARCHIVE=comfyui
while getopts "t:2" option; do
  case $option in t) TOTAL=$OPTARG ;; 2) ARCHIVE=second ;; *) exit 2 ;; esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || { sed -n 2,5p "${BASH_SOURCE[0]}"; exit 2; }

export OUT=${OUT:-$ROOT/.device/out} KIT_WORK=${KIT_WORK:-/tmp/kolors-kit}
PYTHON=${KIT_PYTHON:-python3}
mkdir -p "$OUT" "$KIT_WORK"
LOG=$OUT/kit.log
say() { echo "[$((SECONDS - START)) s] $*" | tee -a "$LOG"; }

# ---- what the stages need: packages and the host, made once on each machine ----
if [ ! -f "$KIT_WORK/site.done" ] && [ -z "${KIT_SITE:-}" ]; then
  rm -rf "$KIT_WORK/site"
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check --upgrade \
    --target "$KIT_WORK/site" "$ROOT"/.whl/*.whl >>"$LOG" 2>&1 || { say "the wheels did not install"; tail -5 "$LOG"; exit 1; }
  touch "$KIT_WORK/site.done"
fi
if [ ! -f "$KIT_WORK/$ARCHIVE.done" ]; then
  rm -rf "${KIT_WORK:?}/$ARCHIVE"
  mkdir -p "$KIT_WORK/$ARCHIVE"
  tar -xzf "$ROOT/.device/$ARCHIVE.tar.gz" -C "$KIT_WORK/$ARCHIVE" --strip-components=1 >>"$LOG" 2>&1 ||
    { say "the host did not unpack"; exit 1; }
  mkdir -p "$KIT_WORK/$ARCHIVE"/{models,input,output,custom_nodes,temp,user}
  touch "$KIT_WORK/$ARCHIVE.done"
fi
export PYTHONPATH=${KIT_SITE:-$KIT_WORK/site}:$KIT/stubs:$KIT${KIT_PATH:+:$KIT_PATH}${PYTHONPATH:+:$PYTHONPATH}
export COMFYUI_PATH=$KIT_WORK/$ARCHIVE PYTHONUNBUFFERED=1 PYTHONUTF8=1 PYTHONPYCACHEPREFIX=$KIT_WORK/pycache
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 OMP_WAIT_POLICY=PASSIVE
[ -f "$ROOT/.device/tokenizer.model" ] && export KOLORS_TOKENIZER=$ROOT/.device/tokenizer.model
if [ "${KIT_DEVICE:-}" = cpu ]; then export CUDA_VISIBLE_DEVICES=; fi

# ---- one stage: a time limit of its own, and never beyond that of all ----
stage() { # NAME SECONDS
  local limit=$2 left=$((TOTAL - SECONDS + START - 5)) began=$SECONDS status
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 10 ]; then say "$1: no time left"; return; fi
  say "== $1, at most $limit s"
  export KIT_DEADLINE=$(($(date +%s) + limit - 3))
  timeout -k 5 -s INT "$limit" "$PYTHON" "$KIT/kit_$1.py" > >(tee -a "$LOG" | grep --line-buffered -E '^(\[kit\]|\|)') 2>>"$LOG"
  status=$?
  sleep 0.3
  if [ "$(stat -c %s "$LOG")" -gt 15000000 ]; then  # too large a file to bring back
    { head -c 3000000 "$LOG"; printf '\n[... cut by run.sh ...]\n'; tail -c 6000000 "$LOG"; } >"$LOG.part" && mv "$LOG.part" "$LOG"
  fi
  say "== $1 ended with $status after $((SECONDS - began)) s"
}

cd "$ROOT" || exit 1
say "run.sh $* on $("$PYTHON" -c 'import sys; print(sys.version.split()[0], sys.executable)'), host $ARCHIVE"
nvidia-smi >>"$LOG" 2>&1
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used,clocks.sm,power.draw --format=csv,noheader 2>/dev/null | tee -a "$LOG"
for name in "$@"; do
  case $name in
    smoke) stage smoke "${KIT_SMOKE:-90}" ;;
    tests) stage tests "${KIT_TESTS:-240}" ;;
    bench) stage bench "${KIT_BENCH:-300}" ;;
    memory) stage memory "${KIT_MEMORY:-120}" ;;
    *) say "no stage $name: smoke, tests, bench, memory" ;;
  esac
done
for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
say "done; in \$OUT:"
(cd "$OUT" && ls -s --block-size=1K | tail -n +2)
"$PYTHON" "$KIT/kit_summary.py" 2>>"$LOG"
exit 0
