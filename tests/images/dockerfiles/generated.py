"""Texts of Dockerfiles, good and bad, for properties."""

from __future__ import annotations

from hypothesis import strategies as st

_LINES = r"""FROM a
from b AS x
FROM --platform=$P c as Y
RUN echo hi
run a && b
RUN <<EOF
EOF
RUN <<-'E F' cat
E F
COPY a b
COPY --from=x --chown=1:2 a b /c/
COPY ["a b", "c"]
ADD <<X /y
X
ENV A=1 B='2 3'
ENV A 1 2
ARG A
ARG B=$A C=d
LABEL a=b
CMD ["x", "y"]
CMD x y
ONBUILD RUN z
ONBUILD COPY <<X /a
# comment
# escape=`
# syntax=docker/dockerfile:1
WORKDIR /a
USER b
EXPOSE 1 2/udp
HEALTHCHECK --interval=1s CMD ["a"]
HEALTHCHECK NONE
VOLUME /a /b
SHELL ["/bin/sh", "-c"]
STOPSIGNAL 9
MAINTAINER me
BOGUS x
RUN --mount=type=bind,from=x,source=/a,target=/b c
RUN [1, 2]
RUN [
CMD []"""
_PIECES = [*_LINES.split("\n"), "\tEOF", "#", "", " ", "\\", "`"]
_GLUE = ["\n", "\r\n", "\n\n", " \\\n", "\\\n", "`\n", " `\n ", "\\ \n\t", " ", "", "\\\n# c\n", "\\\n\n"]
_NOISE = st.text(alphabet="FROMRUN#=<>-EOF'\"$\\`{}[], \t\n\r:/ab1\0é\ufeff\u2028\x1c\x85\ud800", max_size=12)


def _joined(parts: list[tuple[str, str]]) -> str:
    return "".join(piece + glue for piece, glue in parts)


dockerfiles = st.lists(st.tuples(st.sampled_from(_PIECES) | _NOISE, st.sampled_from(_GLUE)), max_size=9).map(_joined)
"""Anything between a good Dockerfile and noise."""

plausible = st.lists(st.tuples(st.sampled_from(_PIECES), st.sampled_from(_GLUE)), max_size=7).map(
    lambda parts: "FROM scratch\n" + _joined(parts)
)
"""Mostly good Dockerfiles."""
