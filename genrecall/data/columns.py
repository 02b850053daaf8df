"""Which column holds what: the names that exports give to the fields of items, queries, judgments and logs.

A field that the configuration maps is never looked for. One that it does not map, and that the first rows do not have
under its standard name, is looked for among the names here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unicodedata import combining, normalize

from genrecall.data.field_mapping import getter

SAMPLE_ROWS = 500  # of a source, whose columns are looked at

# field -> names, the likeliest first; compared in lower case, with runs of other characters as one "_".
ITEM = {
    "id": (
        "item_id id product_id productid item_number sku product_sku asin parent_asin url_handle handle "
        "article_number article_id artikelnummer external_id object_id objectid entity_id code product_code "
        "pid uniq_id unique_id style_id doc_id docid reference ref item_code productcode seller_sku item_sku art_nr "
        "codigo codice kod post_id gtin ean upc isbn uuid _id"
    ),
    "title": (
        "title product_title name product_name item_name item_title display_name displayname "
        "productdisplayname productname label headline heading prod_name produktname product bezeichnung designation "
        "libelle titel titre titulo titolo nombre nome nom naam nazev nazwa namn navn"
    ),
    "category": (
        "category categories category_path categorypath category_names category_name category_tree "
        "categoryhierarchy category_hierarchy hierarchical_categories product_category product_type "
        "product_categories producttype google_product_category taxonomy breadcrumb breadcrumbs department "
        "departments main_category section class item_category product_category_tree hierarchicalcategories "
        "product_type_name product_class categorytext kategorie kategorien kategoria categorie categoria categorias "
        "warengruppe"
    ),
    "brand": (
        "brand brands brand_name product_brand vendor manufacturer manufacturer_name maker marke marque marca "
        "hersteller fabrikant fabricant fabricante produttore producent vyrobce merk znacka designer item_brand store "
        "publisher author"
    ),
    "text": (
        "text description descriptions product_description body_html body long_description short_description "
        "summary details content bullet_points bullet_point product_bullet_point product_highlight highlights "
        "features feature tags keywords color colour product_color material pattern size gender age_group "
        "attributes specifications specs subtitle product_detail detail_desc product_features "
        "kurzbeschreibung beschreibung descripcion descripcion_corta descricao descricao_curta descrizione "
        "omschrijving popis opis"
    ),
}
QUERY = {
    "id": "query_id queryid qid query_number id _id topic topic_id",
    "text": (
        "text query query_text querytext user_query search_term search_query search_phrase keyword keywords "
        "term querystring query_string title q"
    ),
}
JUDGMENT = {
    "query_id": "query_id queryid qid query_number topic topic_id",
    "query": (
        "query query_text querytext user_query search_term search_query search_phrase keyword keywords term "
        "query_string q searchquery searchterm search"
    ),
    "item_id": (
        "item_id itemid docid doc_id document_id document documentid doc corpus_id corpusid product_id "
        "productid product asin sku object_id pid passage_id item item_ids url clicked_item"
    ),
    "grade": (
        "grade rating relevance relevance_grade relevancy score label rel judgment judgement gain esci_label "
        "gold_label relevant relevance_score relevance_label relevance_judgment relevancegrade grade_value"
    ),
    "impressions": "impressions impression_count impression views view_count exposures shown times_shown displays",
    "clicks": "clicks click_count click clicked num_clicks number_of_clicks item_clicks click_throughs total_clicks",
    "purchases": (
        "purchases purchase_count purchase orders order_count conversions sales bought units_sold "
        "transactions items_purchased purchased carts adds_to_cart"
    ),
}
LOGGED_QUERY = {
    "query_id": "query_id queryid query_response_queryid",
    "user_query": "user_query userquery query_text search_term search_query searchterm query keyword q",
    "client_id": "client_id clientid user_id userid session_id sessionid user_pseudo_id visitor_id visitorid "
    "domain_userid anonymous_id anonymousid distinct_id",
    "timestamp": (
        "timestamp _timestamp datetime date_time time event_timestamp event_time created_at collector_tstamp "
        "derived_tstamp server_time originaltimestamp received_at date ts"
    ),
    "hits": (
        "query_response_hit_ids query_response_hits_ids query_response_object_ids query_response_objects_ids "
        "queryresponsehitids query_response_queryresponsehitids queryresponse_queryresponsehitids hits "
        "hit_ids result_ids results shown_ids shown displayed_items"
    ),
    "gender": "query_attributes_gender gender queryattributes_gender",
    "age_band": "query_attributes_age_band age_band queryattributes_age_band",
}
LOGGED_EVENT = {
    "action": "action_name actionname action event_name eventname event_type eventtype event type",
    "query_id": "query_id queryid",
    "client_id": LOGGED_QUERY["client_id"],
    "timestamp": LOGGED_QUERY["timestamp"],
    "user_query": (
        "user_query userquery query_text search_term search_terms search_query searchterm search_keyword query "
        "searchquery search keyword q properties_query properties_search_query properties_search_term"
    ),
    "item_id": (
        "event_attributes_object_object_id event_attributes_object_objectid event_attributes_object_id "
        "event_attributes_object_internal_id event_attributes_object_item_id event_attributes_object "
        "event_attributes_objects event_attributes_data_data_id event_attributes_item_id "
        "event_attributes_product_id object_object_id object_id objectid item_id itemid items_item_id items "
        "product_id productid sku asin docid doc_id document_id clicked_item clicked_doc_id item "
        "properties_product_id properties_sku properties_item_id properties_products"
    ),
    "position": (
        "event_attributes_position_ordinal event_attributes_position_index event_attributes_position_rank "
        "event_attributes_position_position event_attributes_object_position event_attributes_object_index "
        "event_attributes_rank event_attributes_ordinal event_attributes_position position_ordinal "
        "position_index position ordinal rank item_position index item_index clicked_position "
        "properties_position"
    ),
}
_LOCALE = re.compile(
    r"(\w+?)_(?:en|de|fr|es|it|nl|pt|pl|cs|sk|sv|da|fi|hu|ro|tr|ru|uk|el|ja|zh|ko|ar|he|th|vi)"
    r"(?:_[a-z]{2})?(?:_\w+)?"
)  # name-en_US, description-en_US-ecommerce, name.de
_SEPARATORS = re.compile(r"[^\w]+|_+")
_ATTRIBUTE = re.compile(r"attribute_\d+_values?(_s)?|option\d+_value")  # of WooCommerce and Shopify


def plain(name: str) -> str:
    """A column's name as it is compared: lower case, without accents, runs of other characters as one `_`."""
    if name in ("_id", "@timestamp"):
        return name.replace("@", "_")
    if not name.isascii():
        name = "".join(letter for letter in normalize("NFKD", name) if not combining(letter))
    text = _SEPARATORS.sub("_", name.removeprefix("_source.").casefold()).strip("_")
    return text.removeprefix("g_") or text


def names(aliases: Mapping[str, str]) -> set[str]:
    """Every name of `aliases`."""
    return {name for several in aliases.values() for name in several.split()}


def columns_of(rows: Sequence[Any]) -> dict[str, int]:
    """Paths of fields in rows -> how many rows have a value there: names, and two more levels of objects by dots.

    A list of objects counts as its first.
    """
    counts: Counter[str] = Counter()
    order: dict[str, None] = {}
    for row in rows:
        if isinstance(row, dict):
            for path in _paths(row, ""):
                counts[path] += 1
                order.setdefault(path)
    return {path: counts[path] for path in order if _readable(path)}


def _paths(value: dict[Any, Any], above: str, depth: int = 0) -> Iterator[str]:
    for key, part in value.items():
        if not isinstance(key, str) or part is None or part in ("", [], {}):
            continue
        path = f"{above}{key}"
        yield path
        if isinstance(part, dict) and depth < 3:
            yield from _paths(part, f"{path}.", depth + 1)


def _readable(path: str) -> bool:
    try:
        getter(path)
    except ValueError:
        return False
    return True


def find(columns: Mapping[str, int], names: str) -> list[str]:
    """The columns that `names` (of an alias table) name, in the order of the names; else their forms of a language.

    columns: as `columns_of`.
    """
    by_name: dict[str, list[str]] = {}
    by_locale: dict[str, list[str]] = {}
    for column in columns:
        name = plain(column)
        by_name.setdefault(name, []).append(column)
        if localized := _LOCALE.fullmatch(name):
            by_locale.setdefault(localized[1], []).append(column)
    found = (by_name.get(name) or by_locale.get(name, []) for name in names.split())
    return list(dict.fromkeys(column for several in found for column in several))


def find_one(columns: Mapping[str, int], names: str) -> str | None:
    """The likeliest of `find`: the first that at least half as many rows have as the fullest."""
    found = find(columns, names)
    most = max((columns[column] for column in found), default=0)
    return next((column for column in found if columns[column] * 2 >= most), None)


def find_texts(columns: Mapping[str, int], taken: set[str]) -> list[str]:
    """Every column that is worth searching beside those `taken`."""
    attributes = [column for column in columns if _ATTRIBUTE.fullmatch(plain(column))]
    return [column for column in dict.fromkeys([*find(columns, ITEM["text"]), *attributes]) if column not in taken]
