"""Catalogues as shops export them: what a file is, is found in it."""

# ruff: noqa: E501 - files are written as they are, with letters of other scripts

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genrecall.config.data import DataSection, ItemFields, ItemSource
from genrecall.data.readers import read_items
from genrecall.data.rejects import Rejects
from genrecall.errors import UserError

MERCHANT = (
    "id\ttitle\tdescription\tlink\tprice\tgoogle_product_category\tproduct_type\tbrand\n"
    "1\tRoad bike\tFast, light\thttps://shop.example/1\t9.99 EUR\t3214\tSports > Cycling\tAcme\n"
    '2\tHelmet 20" wheel\t"A ""good"" one"\thttps://shop.example/2\t1,299.00 EUR\t\tSports > Cycling > Helmets\tAcme\n'
)
SHOPIFY = (
    "Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Variant SKU,Variant Price,Image Src\n"
    'tee,Plain Tee,"<p>Soft &amp; light.</p>\n<ul><li>Cotton</li></ul>",Acme,Shirts,"summer, men",true,Size,S,T-S,9.99,a.jpg\n'
    "tee,,,,,,,,M,T-M,9.99,b.jpg\n"
    "tee,,,,,,,,,,,c.jpg\n"
    "cap,Cap,,Acme,Hats,,true,Title,Default Title,C,5,\n"
)
WOOCOMMERCE = (
    '\ufeffID,Type,SKU,Name,Published,"Short description",Description,"Regular price",Categories,Tags,Parent,"Attribute 1 name",'
    '"Attribute 1 value(s)"\n'
    '44,variable,tee,"V-Neck Tee",1,Short,Long,,"Clothing, Clothing > Tees, Sale",,,Color,"Blue, Green"\n'
    "76,variation,tee-red,V-Neck Tee - Red,1,,,20,,,tee,Color,Red\n"
    '87,grouped,logo,"Logo Collection",1,,,,Clothing,,,,\n'
)
MAGENTO = (
    "sku,store_view_code,attribute_set_code,product_type,categories,name,description,price\n"
    '24-MB01,,Bag,simple,"Default Category/Gear,Default Category/Gear/Bags","Joust Duffle Bag","<p>The sporty bag</p>",34\n'
    '24-MB01,fr,Bag,simple,,"Sac Joust",,\n'
)
RSS = """<?xml version="1.0"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title>
<item><g:id>1</g:id><title>Road bike</title><g:brand>Acme</g:brand><g:product_type>Sports &gt; Cycling</g:product_type>
<description><![CDATA[<b>Fast</b> &amp; light]]></description><g:additional_image_link>a</g:additional_image_link></item>
<item><g:id>2</g:id><g:title>Bell &amp; horn</g:title><g:product_type>Sports</g:product_type><g:product_type>Sports > Cycling > Bells</g:product_type></item>
</channel></rss>"""
ATOM = """<?xml version="1.0" encoding="ISO-8859-1"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title>
<entry><g:id>1</g:id><title>V\xe9lo</title><g:brand>Acme</g:brand></entry></feed>"""


def read(
    folder: Path, name: str, content: str | bytes, share: float = 1, **source: Any
) -> tuple[list[dict[str, Any]], Rejects]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    rejects = Rejects()
    items = read_items(
        DataSection(folder=folder, items=ItemSource(path=name, **source), max_reject_share=share), rejects
    )
    items.validate(full=True)
    return items.to_pylist(), rejects


def test_google_merchant_table(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, "feed.txt", MERCHANT)
    assert not rejects.count()
    assert rows[0] == {
        "item_id": "1",
        "title": "Road bike",
        "category": ["Sports", "Cycling"],
        "brand": "Acme",
        "text": "Fast, light",
    }
    assert (rows[1]["title"], rows[1]["text"]) == ('Helmet 20" wheel', 'A "good" one')
    assert rows[1]["category"] == ["Sports", "Cycling", "Helmets"]


@pytest.mark.parametrize(("name", "text"), [("feed.xml", RSS), ("feed", RSS)])
def test_google_merchant_rss(tmp_path: Path, name: str, text: str) -> None:
    rows, _ = read(tmp_path, name, text)
    assert rows[0] == {
        "item_id": "1",
        "title": "Road bike",
        "category": ["Sports", "Cycling"],
        "brand": "Acme",
        "text": "Fast & light",
    }
    assert (rows[1]["title"], rows[1]["category"]) == ("Bell & horn", ["Sports", "Cycling", "Bells"])


def test_atom_in_latin_1(tmp_path: Path) -> None:
    (row,), _ = read(tmp_path, "feed.xml", ATOM.encode("latin-1"))
    assert (row["item_id"], row["title"], row["brand"]) == ("1", "Vélo", "Acme")


def test_shopify_variants_belong_to_the_product_above(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, "products_export.csv", SHOPIFY)
    assert [(row["item_id"], row["title"], row["category"], row["brand"]) for row in rows] == [
        ("tee", "Plain Tee", ["Shirts"], "Acme"),
        ("cap", "Cap", ["Hats"], "Acme"),
    ]
    assert rows[0]["text"].splitlines() == ["Soft & light. Cotton", "summer, men", "S", "M"]
    assert rows[1]["text"] == ""
    assert rejects.left_out["items"] == {"a variant or picture of the product above": 2}
    assert not rejects.count()


def test_woocommerce_has_several_paths_in_a_cell(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, "products.csv", WOOCOMMERCE)
    assert [(row["item_id"], row["title"], row["category"]) for row in rows] == [
        ("44", "V-Neck Tee", ["Clothing", "Tees"]),
        ("87", "Logo Collection", ["Clothing"]),
    ]
    assert rows[0]["text"].splitlines() == ["Long", "Short", "Blue, Green", "Sale"], "the other path is kept"
    assert rejects.left_out["items"] == {"a variation of a product": 1}


def test_magento_paths(tmp_path: Path) -> None:
    (row,), rejects = read(tmp_path, "catalog_product.csv", MAGENTO)
    assert row == {
        "item_id": "24-MB01", "title": "Joust Duffle Bag", "category": ["Gear", "Bags"], "brand": "", "text": "The sporty bag"
    }  # fmt: skip
    assert rejects.left_out["items"] == {"a store view of a product": 1}


BIGCOMMERCE = (
    "Item Type,Product ID,Product Name,Product Code/SKU,Brand Name,Product Description,Category\n"
    "Product,77,Fog Linen,SL,Acme,<p>Linen</p>,Shop All/Bath;Garden\n"
    "  SKU,15,[S]Color=Silver,SL-1,,,\n"
)
WOOCOMMERCE_PT = (
    "\ufeffID,Tipo,REF,Nome,Publicado,Descrição,Categorias,Ascendente\n"
    '44,variable,tee,V-Neck Tee,1,Macia,"Roupas, Roupas > Camisetas",\n'
    "76,variation,tee-red,V-Neck Tee - Red,1,,,tee\n"
    '87,"simple, virtual",logo,Logo,1,,Roupas,\n'
)
WXR = """<rss version="2.0" xmlns:wp="http://wordpress.org/export/1.2/"><channel><title>S</title>
<item><title>V-Neck</title><wp:post_id>44</wp:post_id><wp:post_type>product</wp:post_type>
<category domain="product_cat" nicename="c">Clothing</category><category domain="product_type" nicename="s">simple</category></item>
<item><title>image.jpg</title><wp:post_id>45</wp:post_id><wp:post_type>attachment</wp:post_type></item></channel></rss>"""
YML = """<?xml version="1.0" encoding="windows-1251"?><yml_catalog><shop><categories><category id="1">Обувь</category>
<category id="2" parentId="1">Ботинки</category><category id="3" parentId="3">Loop</category></categories><offers>
<offer id="11"><name>Красные ботинки</name><categoryId>2</categoryId><vendor>Acme</vendor></offer>
<offer id="12"><name>Сумка</name><categoryId>9</categoryId></offer></offers></shop></yml_catalog>"""


@pytest.mark.parametrize(("text", "expected"), [
    (BIGCOMMERCE, [("77", "Fog Linen", ["Shop All", "Bath"], "Acme", "Linen\nGarden")]),
    (WOOCOMMERCE_PT, [("44", "V-Neck Tee", ["Roupas", "Camisetas"], "", "Macia"), ("87", "Logo", ["Roupas"], "", "")]),
    (YML, [("11", "Красные ботинки", ["Обувь", "Ботинки"], "Acme", ""), ("12", "Сумка", [], "", "")]),
    ("Product ID;Name *;Categories (x,y,z...);Manufacturer\n1;Mug;Home,Art;Studio\n2;Cup;Home;\n",
     [("1", "Mug", ["Home", "Art"], "Studio", ""), ("2", "Cup", ["Home"], "", "")]),
    ("sku;categories;name-en_US;description-en_US-ecommerce\nA;shoes;Red shoe;Nice\nB;bags;Bag;\n",
     [("A", "Red shoe", ["shoes"], "", "Nice"), ("B", "Bag", ["bags"], "", "")]),
    ("Référence;Désignation;Catégorie;Marque;Prix TTC\nA1;Chaussure;Chaussures > Femmes;Acme;9,90\nA2;Sac;Sacs;;1,00\n",
     [("A1", "Chaussure", ["Chaussures", "Femmes"], "Acme", ""), ("A2", "Sac", ["Sacs"], "", "")]),
    ("Product export 2026-01-01,,,\n,,,\nSKU,Name,Category,Price\n1,Shoe,A > B,9\n2,Bag,A,10\n",
     [("1", "Shoe", ["A", "B"], "", ""), ("2", "Bag", ["A"], "", "")]),
    ("A report of three\tcells\there\nSKU\tName\tCategory\tPrice\n1\tShoe\tA\t9\n2\tBag\tA\t10\n",
     [("1", "Shoe", ["A"], "", ""), ("2", "Bag", ["A"], "", "")]),
    ('{"data": {"products": {"edges": [{"node": {"id": "g/1", "title": "Shoe"}}, {"node": {"id": "g/2", "title": "Bag"}}]}}}',
     [("g/1", "Shoe", [], "", ""), ("g/2", "Bag", [], "", "")]),
    ('{"B01": {"title": "Shoe", "brand": "A"}, "B02": {"title": "Bag"}}', [("B01", "Shoe", [], "A", ""), ("B02", "Bag", [], "", "")]),
    (WXR, [("44", "V-Neck", ["Clothing"], "", "")]),
    ("<catalogo><info>x</info><produto><codigo>1</codigo><nome>Sapato</nome></produto><produto><codigo>2</codigo><nome>Bolsa</nome></produto></catalogo>",
     [("1", "Sapato", [], "", ""), ("2", "Bolsa", [], "", "")]),
    ('<products><product id="1" name="Shoe" category="A"/><product id="2" name="Bag">x</product></products>',
     [("1", "Shoe", ["A"], "", ""), ("2", "Bag", [], "", "x")]),
    ('id, title, category\na, "Shoe, red", A\nb, "Bag", B\n', [("a", "Shoe, red", ["A"], "", ""), ("b", "Bag", ["B"], "", "")]),
    ("id,title,category\na,Shoe,A,\nb,Bag,B,\n", [("a", "Shoe", ["A"], "", ""), ("b", "Bag", ["B"], "", "")]),
    ('{"id": {"0": "a", "1": "b"}, "title": {"0": "Shoe", "1": "Bag"}}', [("a", "Shoe", [], "", ""), ("b", "Bag", [], "", "")]),
    ('{"id": "1", "title": "Shoe"}\n{"id": "11", "title": "S", "__parentId": "1"}\n', [("1", "Shoe", [], "", "")]),
    ("{'asin': 'B1', 'title': \"Men's\", 'categories': [['A', 'B']]}\n{'asin': 'B2', 'title': 'Bag'}\n",
     [("B1", "Men's", ["A", "B"], "", ""), ("B2", "Bag", [], "", "")]),
])  # fmt: skip
def test_exports_of_other_shops(tmp_path: Path, text: str, expected: list[tuple[Any, ...]]) -> None:
    encoding = "cp1251" if text.startswith("<?xml") else "utf-8"
    rows, rejects = read(tmp_path, "export", text.encode(encoding))
    assert [(r["item_id"], r["title"], r["category"], r["brand"], r["text"]) for r in rows] == expected
    assert not rejects.count()


def test_a_sparse_first_row_without_a_header_above_the_rest_is_no_title(tmp_path: Path) -> None:
    fields = ItemFields(id="1", title="2")
    rows, rejects = read(tmp_path, "items.csv", "9,,,\n1,Shoe,A,9\n2,Bag,A,10\n", fields=fields)
    assert [row["item_id"] for row in rows] == ["1", "2"]
    assert rejects.reasons["items"] == {"title is empty": 1}


PLAIN = [("a", "Été à la mer", "Home > Kitchen"), ("b", 'A "big", red\nbag', "Home > Bags"), ("c", "x;y|z", "Home")]


def table(delimiter: str, end: str = "\n") -> str:
    lines = [("sku", "name", "category"), *PLAIN]
    return end.join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines) + end


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "^"])
@pytest.mark.parametrize(
    ("encoding", "end"),
    [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("latin-1", "\n"), ("utf-16", "\r\n"), ("utf-16-le", "\n")],
)
def test_tables_of_any_delimiter_and_encoding(tmp_path: Path, delimiter: str, encoding: str, end: str) -> None:
    content = table(delimiter, end).encode(encoding)
    for name, data in (("export.csv", content), ("export.dat", gzip.compress(content))):
        rows, rejects = read(tmp_path / name, name, data)
        assert not rejects.count()
        found = [(row["item_id"], row["title"], " > ".join(row["category"])) for row in rows]
        assert found == [(a, " ".join(b.split()), c) for a, b, c in PLAIN]


@pytest.mark.parametrize(("text", "encoding"), [
    ("東京西川 枕 高さ調節", "shift_jis"), ("红色运动鞋 男", "gb18030"), ("Красные туфли", "cp1251"), ("Żółta kurtka", "cp1250"),
    ("Prix 10 €", "cp1252"), ("Größe", "latin-1"),
])  # fmt: skip
def test_legacy_encodings(tmp_path: Path, text: str, encoding: str) -> None:
    rows, _ = read(tmp_path, "items.csv", ("id,title\n" + "".join(f"{n},{text}\n" for n in range(20))).encode(encoding))
    assert {row["title"] for row in rows} == {text}


def test_bytes_of_another_encoding_cost_their_row_alone(tmp_path: Path) -> None:
    lines = [f"{n},Été {n}".encode() for n in range(20)] + ["x,Été".encode("latin-1")]
    rows, rejects = read(tmp_path, "items.csv", b"id,title\n" + b"\n".join(lines))
    assert len(rows) == 20
    assert rejects.reasons["items"] == {"not utf-8": 1}


def test_quote_that_is_never_closed_costs_its_row_alone(tmp_path: Path) -> None:
    good = "".join(f'{n},"title {n}",x\n' for n in range(500))
    rows, rejects = read(
        tmp_path, "items.csv", f'id,title,text\n{good}b,"broken,x\n' + "".join(f"z{n},t,x\n" for n in range(99))
    )
    assert (len(rows), rejects.reasons["items"]) == (599, {"a quote is never closed": 1})


def test_rows_of_too_many_cells_are_rejected_and_short_ones_are_not(tmp_path: Path) -> None:
    rows, rejects = read(tmp_path, "items.csv", "id,title,brand\na,A,x,y\nb,B\nc,C,\n\n")
    assert [row["item_id"] for row in rows] == ["b", "c"]
    assert rejects.reasons["items"] == {"more cells than the 3 columns": 1}


JSON_ROWS = [{"item_id": "a", "title": "x"}, {"item_id": 7, "title": "y", "category": ["A", "B"]}]


@pytest.mark.parametrize("text", [
    json.dumps(JSON_ROWS),
    json.dumps(JSON_ROWS, indent=2),
    "\n".join(map(json.dumps, JSON_ROWS)),
    "\n".join(json.dumps(row, indent=1) for row in JSON_ROWS),
    json.dumps({"products": JSON_ROWS, "total": 2}),
    json.dumps({"took": 3, "hits": {"total": 2, "hits": [{"_index": "p", "_id": "1", "_source": row} for row in JSON_ROWS]}}),
    "".join(json.dumps({"index": {"_index": "p"}}) + "\n" + json.dumps(row) + "\n" for row in JSON_ROWS),
    "".join(json.dumps({"_index": "p", "_id": "9", "_source": row}) + "\n" for row in JSON_ROWS),
])  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_json_in_every_shape(tmp_path: Path, text: str, encoding: str) -> None:
    rows, rejects = read(tmp_path, "products.json", text.encode(encoding))
    assert [(row["item_id"], row["title"], row["category"]) for row in rows] == [("a", "x", []), ("7", "y", ["A", "B"])]
    assert not rejects.count()


def test_bulk_request_gives_documents_their_ids(tmp_path: Path) -> None:
    lines = [
        {"index": {"_index": "p", "_id": "1"}}, {"name": "A"}, {"delete": {"_id": "4"}},
        {"update": {"_id": "2"}}, {"doc": {"name": "B"}}, {"create": {"_id": "3"}}, {"name": "C"},
    ]  # fmt: skip
    rows, rejects = read(tmp_path, "bulk.ndjson", "\n".join(map(json.dumps, lines)))
    assert [(row["item_id"], row["title"]) for row in rows] == [("1", "A"), ("2", "B"), ("3", "C")]
    assert not rejects.count()


@pytest.mark.parametrize(("text", "message"), [
    ('[{"id": "a", "title": "x"}, {"id"', r"line 1: not JSON.*expected"),
    ('[{"id": "a", "title": "x"}\n{"id": "b", "title": "x"}]', r"line 2: not JSON; found '\{.*',' or '\]'"),
    ("<html><body>Log in</body></html>", "page in HTML"),
    ("<rss><item><id>1</id><title>a & b</title></item></rss>", r"line 1: not XML"),
    ('<!DOCTYPE x [<!ENTITY a "b">]><rss><item><id>1</id></item></rss>', "declares entities"),
    ("<rss><channel><title>x</title></channel></rss>", "has no product"),
    ("<rss><item><id>1</id><title>a</title></item><item>", r"line 1: not XML.*ends too early"),
    ("id,title\na,Shoe S\na,Shoe M\n" , r"id is a duplicate.*each variant of a product.*--map id=COLUMN"),
    ("PK\x03\x04....", "Excel workbook"),
    ("", "is empty"),
    ("\n\n", "is empty"),
    ("Bezeichnung,Farbe\nTopf,rot\n", r"no column for the id of an item among Bezeichnung, Farbe.*--map id=COLUMN"),
    ("1\tRoad bike\t9.99 EUR\n2\tBell\t1.00 EUR\n", r"no column for the id.*by their number, from 1"),
    ("id,title\n\0\x01\x02,b\n", r"not text|zero byte"),
])  # fmt: skip
def test_files_that_cannot_be_read_name_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, "items.data", text, share=0.1)


def test_ids_that_a_spreadsheet_rounded_are_warned_of(tmp_path: Path) -> None:
    _, rejects = read(tmp_path, "items.csv", "id,title\n4.00638E+12,Shoe\n4.00639E+12,Bag\n")
    assert "ids such as 4.00638E+12 were rounded by a spreadsheet" in rejects.notes["items"][0]


def test_titles_that_were_encoded_twice_are_warned_of(tmp_path: Path) -> None:
    _, rejects = read(tmp_path, "items.csv", "id,title\na,CafÃ© noir\nb,Ã¼ber\nc,Bag\n")
    assert "titles such as 'CafÃ© noir' were encoded twice ('Café noir' is meant)" in rejects.notes["items"][0]
    _, rejects = read(tmp_path / "good", "items.csv", "id,title\na,Café noir\nb,Ünder\nc,Bag\n")
    assert not rejects.notes


def test_texts_that_a_parquet_file_holds_as_bytes(tmp_path: Path) -> None:
    table = pa.table({"id": [b"a", b"b"], "title": ["Größe".encode(), b"Bag"], "raw": [b"\xff", b"x"]})
    pq.write_table(table, tmp_path / "p.parquet")
    rows, rejects = read(tmp_path, "p.parquet", (tmp_path / "p.parquet").read_bytes())
    assert [(row["item_id"], row["title"]) for row in rows] == [("a", "Größe"), ("b", "Bag")]
    assert not rejects.count()


def test_columns_of_a_table_without_a_header_are_named_by_number(tmp_path: Path) -> None:
    fields = ItemFields(id="1", title="2")
    rows, _ = read(tmp_path, "feed.tsv", "1\tRoad bike\t9.99 EUR\n2\tBell\t1.00 EUR\n", fields=fields)
    assert [(row["item_id"], row["title"]) for row in rows] == [("1", "Road bike"), ("2", "Bell")]


VALUES = [
    ({"title": 1984}, "title", "1984"),
    ({"title": ["Nike Air"]}, "title", "Nike Air"),
    ({"title": {"en": "Pan"}}, "title", "Pan"),
    ({"title": "Shoes &amp; Socks <b>new</b>"}, "title", "Shoes & Socks new"),
    ({"title": "Caf&amp;eacute; <br>5 < 6 <M>"}, "title", "Café 5 < 6 <M>"),
    ({"title": "เสื้อยืดผู้ชายสีดำ"}, "title", "เสื้อยืดผู้ชายสีดำ"),
    ({"brand": ["Nike"]}, "brand", "Nike"),
    ({"brand": ["Nike", "Jordan"]}, "brand", "Nike, Jordan"),
    ({"brand": {"id": 4, "name": "Nike"}}, "brand", "Nike"),
    ({"brand": 361}, "brand", "361"),
    ({"brand": float("nan")}, "brand", ""),
    ({"brand": "N/A"}, "brand", ""),
    ({"item_id": 12.0}, "item_id", "12"),
    ({"item_id": "AB 12/ü 3"}, "item_id", "AB 12/ü 3"),
    ({"text": {"color": "red", "sizes": [1, 2.5]}}, "text", "red\n1\n2.5"),
    ({"text": "x" * 100_000}, "text", "x" * 100_000),
    ({"category": "Home &gt; Pans"}, "category", ["Home", "Pans"]),
    ({"category": "Home / Pans"}, "category", ["Home", "Pans"]),
    ({"category": "/Home/Pans"}, "category", ["Home", "Pans"]),
    ({"category": "Home | Pans"}, "category", ["Home", "Pans"]),
    ({"category": "Home > TV/Audio"}, "category", ["Home", "TV/Audio"]),
    ({"category": ["Home", "TV/Audio"]}, "category", ["Home", "TV/Audio"]),
    ({"category": [["Home"], ["Home", "Pans"], ["Sale"]]}, "category", ["Home", "Pans"]),
    ({"category": ["Home", "Home > Pans > Iron"]}, "category", ["Home", "Pans", "Iron"]),
    ({"category": [{"id": "c1", "name": "Audio"}]}, "category", ["Audio"]),
    ({"category": [{"id": "c1", "name": "Audio"}, {"id": "c2", "name": "Radios"}]}, "category", ["Audio", "Radios"]),
    ({"category": {"name": "Pans", "parent": {"name": "Home"}}}, "category", ["Home", "Pans"]),
    ({"category": {"lvl0": "Home", "lvl1": "Home > Pans"}}, "category", ["Home", "Pans"]),
    ({"category": "['Home', 'Pans']"}, "category", ["Home", "Pans"]),
    ({"category": "Home > Pans; Sale > Iron > Old"}, "category", ["Sale", "Iron", "Old"]),
    ({"category": 5}, "category", ["5"]),
    ({"category": None}, "category", []),
]  # fmt: skip


@pytest.mark.parametrize(("values", "field", "expected"), VALUES, ids=lambda value: str(value)[:40])
def test_values_of_every_shape(tmp_path: Path, values: dict[str, Any], field: str, expected: Any) -> None:
    (row,), rejects = read(tmp_path, "items.jsonl", json.dumps({"item_id": "a", "title": "t", **values}))
    assert row[field] == expected
    assert not rejects.count()


def test_html_is_kept_where_asked_for(tmp_path: Path) -> None:
    row = json.dumps({"item_id": "a", "title": "A &amp; <b>B</b>"})
    ((found,), _) = read(tmp_path, "items.jsonl", row, fields=ItemFields(keep_html=True))
    assert found["title"] == "A &amp; <b>B</b>"


def test_parquet_of_amazon_products(tmp_path: Path) -> None:
    rows = [
        {
            "product_id": "B1",
            "product_title": "Pan",
            "product_brand": "Acme",
            "product_bullet_point": "iron",
            "product_locale": "us",
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "products.parquet")
    (row,), _ = read(tmp_path, "products.parquet", (tmp_path / "products.parquet").read_bytes())
    assert row == {"item_id": "B1", "title": "Pan", "category": [], "brand": "Acme", "text": "iron"}


def test_columns_found_are_told(tmp_path: Path) -> None:
    _, rejects = read(tmp_path, "products_export.csv", SHOPIFY)
    assert rejects.facts["items"]["products_export.csv"] == {
        "id": "Handle", "title": "Title", "category": "Type", "brand": "Vendor", "separator": ">",
        "text": ["Body (HTML)", "Tags", "Option1 Value"], "export": "Shopify",
    }  # fmt: skip


PIECES = st.sampled_from([
    "id", "title", "category", ",", "\t", ";", '"', '""', "\n", "\r\n", "{", "}", "[", "]", ":", "<item>", "</item>", "<id>", "</id>",
    "&amp;", "&", "null", "NaN", "1", "é", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), " ", "a", "\\", "\x00", "qid:", "#",
])  # fmt: skip
FILES = st.one_of(
    st.binary(max_size=60),
    st.lists(PIECES, max_size=40).map("".join).map(str.encode),
    st.tuples(st.sampled_from([MERCHANT, SHOPIFY, WOOCOMMERCE, MAGENTO, RSS, json.dumps(JSON_ROWS, indent=1)]), st.integers(0, 2000), st.lists(PIECES, max_size=4).map("".join))
    .map(lambda cut: (cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 3 :]).encode("utf-8", "surrogatepass")),
    st.tuples(st.sampled_from([codecs.BOM_UTF8, codecs.BOM_UTF16_LE, b"PAR1", b"\x1f\x8b"]), st.binary(max_size=30)).map(b"".join),
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(FILES, st.sampled_from(["", "*", {"*": "*", "x": "title"}]))
def test_no_file_gives_a_traceback(tmp_path: Path, content: bytes, extra: Any) -> None:
    try:
        rows, rejects = read(tmp_path, "items.data", content, fields=ItemFields(extra=extra))
    except UserError as error:
        assert "items.data" in str(error) or "data.items" in str(error)  # noqa: PT017
    else:
        assert len(rows) == rejects.accepted["items"]


PUBLIC = [  # columns of data sets that shops and researchers pass around -> id, title, category, brand, text
    ("product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\n1\tBed\tBeds\tFurniture / Beds\tsolid\n",
     ("1", "Bed", ["Furniture", "Beds"], "", "solid")),
    ('uniq_id,product_name,product_category_tree,brand,description\nu1,Shorts,"[""Clothing >> Women >> Shorts""]",Alisha,soft\n',
     ("u1", "Shorts", ["Clothing", "Women", "Shorts"], "Alisha", "soft")),
    ("article_id,prod_name,product_type_name,detail_desc\n108775015,Strap top,Vest top,Jersey top\n",
     ("108775015", "Strap top", ["Vest top"], "", "Jersey top")),
    ('{"parent_asin": "B1", "title": "Pan", "categories": ["Home", "Pans"], "main_category": "X", "store": "Acme", "features": ["iron"], "description": ["heavy", ""]}\n',
     ("B1", "Pan", ["Home", "Pans"], "Acme", "heavy\niron")),
    ('{"products": [{"id": 632, "title": "iPod", "body_html": "<p>It&#39;s</p>", "vendor": "Apple", "product_type": "MP3", "tags": "a, b", "variants": [{"id": 1}]}]}',
     ("632", "iPod", ["MP3"], "Apple", "It's\na, b")),
    ('[{"id": 794, "name": "Tee", "type": "simple", "categories": [{"id": 9, "name": "Clothing", "slug": "c"}], "description": "<p>Soft</p>", "price": "21.99"}]',
     ("794", "Tee", ["Clothing"], "", "Soft")),
    ('{"objectID": "1", "name": "TV", "hierarchicalCategories": {"lvl0": "Home", "lvl1": "Home > TV"}, "brand": "LG", "price": null}\n',
     ("1", "TV", ["Home", "TV"], "LG", "")),
    ("sep=;\nArtikelnummer;Bezeichnung;Marke;Beschreibung\n7;Topf;WMF;aus Stahl\n", ("7", "Topf", [], "WMF", "aus Stahl")),
    ("g:id\tg:title\tg:google_product_category\tg:brand\n1\tBike\tSporting Goods > Cycling\tAcme\n", ("1", "Bike", ["Sporting Goods", "Cycling"], "Acme", "")),
    ('<?xml version="1.0"?><rss><channel><item><id>1</id><title>Bed&nbsp;frame &eacute;</title></item></channel></rss>',
     ("1", "Bed frame é", [], "", "")),
    ("id,title\r1,Pan\r", ("1", "Pan", [], "", "")),
    ('<?xml version="1.0"?><yml_catalog><shop><offers><offer id="12"><name>Чайник</name><vendor>Tefal</vendor><description>1.7</description></offer></offers></shop></yml_catalog>',
     ("12", "Чайник", [], "Tefal", "1.7")),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), PUBLIC, ids=lambda value: str(value)[:25])
def test_columns_of_well_known_files(tmp_path: Path, content: str, expected: tuple[Any, ...]) -> None:
    (row,), rejects = read(tmp_path, "export", content)
    assert tuple(row.values()) == expected
    assert not rejects.count()
