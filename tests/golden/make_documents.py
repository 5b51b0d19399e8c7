#!/usr/bin/env python3
"""Makes documents/: the same documents in every form that is read, written by the tools that people use.

    pip install pyarrow
    python tests/golden/make_documents.py          # zstd and gzip are the commands of these names

Made with pyarrow 26.0.1, zstd 1.5.4 and gzip 1.12.
"""

import json
import random
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).parent / "documents"
OUT.mkdir(exist_ok=True)
random.seed(7)

WORDS = "the of and a to in is was he for it with as his on be at by i this had not are but from or have an they which".split()


def document(i):
    text = " ".join(random.choice(WORDS) for _ in range(random.randint(3, 60)))
    return f"document {i}: {text}\nna\u00efve \u201cquotes\u201d \U0001f600\ttab\n" if i % 5 == 0 else f"document {i}: {text}."


texts = [document(i) for i in range(60)]
texts[7] = None  # no document
texts[11] = ""  # none either
texts[13] = texts[12]  # a copy
rows = [{"id": i, "text": text, "meta": {"url": f"https://example.org/{i}", "tags": ["a", "b"]}} for i, text in enumerate(texts)]


def lines(rows, ascii=False):
    return "".join(json.dumps(row, ensure_ascii=ascii) + "\n" for row in rows)


(OUT / "plain.jsonl").write_text(lines(rows))
# A byte-order mark, escapes, blank lines, lines ended by CR LF, and no end to the last line.
(OUT / "odd.ndjson").write_bytes(b"\xef\xbb\xbf" + (lines(rows, ascii=True).replace("\n", "\r\n").replace('{"id": 20', '\r\n  \r\n{"id": 20')).rstrip().encode())


def packed(command, parts):
    return b"".join(subprocess.run(command, input=part.encode(), stdout=subprocess.PIPE, check=True).stdout for part in parts)


# A file of several members or frames is what `cat a.gz b.gz` makes, and parallel packers; a border may lie within a line.
whole = lines(rows)
thirds = [whole[: len(whole) // 3], whole[len(whole) // 3 : 2 * len(whole) // 3], whole[2 * len(whole) // 3 :]]
(OUT / "members.jsonl.gz").write_bytes(packed(["gzip", "-n"], thirds))
(OUT / "frames.jsonl.zst").write_bytes(packed(["zstd", "-q", "-c", "--no-check"], thirds[:1]) + packed(["zstd", "-q", "-c", "-19"], thirds[1:]))
book = "\n\n".join(text for text in texts if text)
(OUT / "book.txt").write_text(book)
(OUT / "book.txt.gz").write_bytes(packed(["gzip", "-n"], [book]))
(OUT / "book.txt.zst").write_bytes(packed(["zstd", "-q", "-c"], [book]))

schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("meta", pa.struct([("url", pa.string()), ("tags", pa.list_(pa.string()))]))])
table = pa.Table.from_pylist(rows, schema=schema)
large = table.set_column(1, "text", table["text"].cast(pa.large_string()))
few = dict(row_group_size=7, data_page_size=300, write_batch_size=2)
pq.write_table(table, OUT / "snappy.parquet", compression="snappy", **few)
pq.write_table(table, OUT / "zstd-pages-2.parquet", compression="zstd", data_page_version="2.0", **few)
pq.write_table(large, OUT / "gzip-large.parquet", compression="gzip", use_dictionary=False)
pq.write_table(table, OUT / "plain-delta.parquet", compression="none", use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"})
pq.write_table(table, OUT / "zstd-lengths.parquet", compression="zstd", use_dictionary=False, column_encoding={"text": "DELTA_LENGTH_BYTE_ARRAY"})
# A dictionary that grows too large within a row group, so that the rest of its pages are plain; no column may be null.
required = pa.schema([pa.field("text", pa.string(), nullable=False)])
full = pa.Table.from_pylist([{"text": text or ""} for text in texts], schema=required)
pq.write_table(full, OUT / "dictionary.parquet", compression="snappy", dictionary_pagesize_limit=2000, data_page_size=500, write_batch_size=4)
pq.write_table(table.slice(0, 0), OUT / "empty.parquet")
pq.write_table(full.slice(0, 3), OUT / "lz4.parquet", compression="lz4")
