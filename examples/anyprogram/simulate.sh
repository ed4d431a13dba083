#!/bin/sh
# The Lorenz attractor, integrated by awk: a program that has never heard of Spotweld, but keeps what it needs in order
# to go on in out/: first a row is appended, and then the state that counts the rows takes the place of the one before.
set -eu
: "${ROWS:=4000}" "${STEPS:=16000}"

mkdir -p out
if [ -e out/state ]; then
    read -r row x y z < out/state
    # Rows that are younger than the state will be computed again.
    head -n "$row" out/path.csv > out/path.new
    mv out/path.new out/path.csv
    echo "going on after row $row"
else
    row=0 x=1 y=1 z=1
    : > out/path.csv
fi

exec awk -v row="$row" -v x="$x" -v y="$y" -v z="$z" -v rows="$ROWS" -v steps="$STEPS" '
BEGIN {
    dt = 0.02 / steps
    for (row++; row <= rows; row++) {
        for (i = 0; i < steps; i++) {
            dx = 10 * (y - x); dy = x * (28 - z) - y; dz = x * y - 8 / 3 * z
            x += dx * dt; y += dy * dt; z += dz * dt
        }
        printf "%d,%.6f,%.6f,%.6f\n", row, x, y, z >> "out/path.csv"
        fflush("out/path.csv")
        printf "%d %.17g %.17g %.17g\n", row, x, y, z > "out/state.new"
        close("out/state.new")
        if (system("mv out/state.new out/state") != 0) exit 1
    }
    printf "%d rows, at %.6f %.6f %.6f\n", rows, x, y, z
}'
